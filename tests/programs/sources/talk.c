/* A server that prints each line that it is sent (PORT [mptcp]), and its clients
 * (ADDRESS PORT WORD [HOW]), which print what they are called. By TCP, or HOW:
 *   udp      by one datagram, after which it ends at once
 *   sendto   by TCP with the word in the SYN (RFC 7413): MSG_FASTOPEN
 *   connect  the same by an option, TCP_FASTOPEN_CONNECT
 *   mptcp    by Multipath TCP (RFC 8684)
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* musl's headers are older than both. */
enum { MULTIPATH = 262, FASTOPEN_CONNECT = 30 };

static int check(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

static void print_name(int s)
{
	char address[INET6_ADDRSTRLEN], port[6];
	struct sockaddr_storage own;
	socklen_t size = sizeof own;
	check(getsockname(s, (void *)&own, &size), "getsockname");
	getnameinfo((void *)&own, size, address, sizeof address, port, sizeof port,
		    NI_NUMERICHOST | NI_NUMERICSERV);
	printf(own.ss_family == AF_INET6 ? "as [%s]:%s\n" : "as %s:%s\n", address, port);
}

static void ask(char **words, const char *how)
{
	char line[256];
	int length = snprintf(line, sizeof line, "%s\n", words[3]), on = 1;
	struct addrinfo only = { .ai_flags = AI_NUMERICHOST }, *to;
	if (getaddrinfo(words[1], words[2], &only, &to)) {
		fprintf(stderr, "%s is no address\n", words[1]);
		exit(2);
	}
	if (!strcmp(how, "udp")) {
		int s = check(socket(to->ai_family, SOCK_DGRAM, 0), "socket");
		check(sendto(s, line, length, 0, to->ai_addr, to->ai_addrlen), "sendto");
		return;
	}
	int protocol = strcmp(how, "mptcp") ? 0 : MULTIPATH;
	int s = check(socket(to->ai_family, SOCK_STREAM, protocol), "socket");
	if (!strcmp(how, "connect"))
		check(setsockopt(s, IPPROTO_TCP, FASTOPEN_CONNECT, &on, sizeof on),
		      "TCP_FASTOPEN_CONNECT");
	if (!strcmp(how, "sendto")) {
		check(sendto(s, line, length, MSG_FASTOPEN, to->ai_addr, to->ai_addrlen),
		      "MSG_FASTOPEN");
	} else {
		check(connect(s, to->ai_addr, to->ai_addrlen), "connect");
		check(write(s, line, length), "write");
	}
	print_name(s);
	while (read(s, line, sizeof line) > 0)
		;
}

static void serve(int port, int protocol)
{
	char line[256];
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = check(socket(AF_INET, SOCK_STREAM, protocol), "socket");
	check(bind(s, (void *)&at, sizeof at), "bind");
	check(listen(s, 5), "listen");
	for (;;) {
		int c = check(accept(s, 0, 0), "accept");
		ssize_t length = read(c, line, sizeof line);
		if (length > 0)
			check(write(1, line, length), "write");
		close(c);
	}
}

int main(int count, char **words)
{
	if (count >= 4)
		ask(words, count == 5 ? words[4] : "tcp");
	else
		serve(atoi(words[1]), count == 3 ? MULTIPATH : 0);
	return 0;
}
