/* A server that prints each line that it is sent (PORT), and its clients: by
 * TCP (ADDRESS PORT WORD), by one datagram after which it ends at once
 * (ADDRESS PORT WORD udp). */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

int main(int count, char **words)
{
	char line[256];
	struct sockaddr_in at = { .sin_family = AF_INET };
	int s = socket(AF_INET, count == 5 ? SOCK_DGRAM : SOCK_STREAM, 0);
	check(s, "socket");
	if (count >= 4) {
		at.sin_port = htons(atoi(words[2]));
		inet_pton(AF_INET, words[1], &at.sin_addr);
		int length = snprintf(line, sizeof line, "%s\n", words[3]);
		if (count == 5) {
			check(sendto(s, line, length, 0, (void *)&at, sizeof at), "sendto");
			return 0;
		}
		check(connect(s, (void *)&at, sizeof at), "connect");
		check(write(s, line, length), "write");
		while (read(s, line, sizeof line) > 0)
			;
		return 0;
	}
	at.sin_port = htons(atoi(words[1]));
	check(bind(s, (void *)&at, sizeof at), "bind");
	check(listen(s, 5), "listen");
	for (;;) {
		int c = accept(s, 0, 0);
		check(c, "accept");
		ssize_t length = read(c, line, sizeof line);
		if (length > 0)
			check(write(1, line, length), "write");
		close(c);
	}
}
