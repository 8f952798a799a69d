/* Connects, says what it is called, and what the server says. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct sockaddr_in server = { .sin_family = AF_INET }, own;
	socklen_t size = sizeof own;
	char greeting[256], text[INET_ADDRSTRLEN];
	if (count != 3 || !inet_aton(words[1], &server.sin_addr))
		return 2;
	server.sin_port = htons(atoi(words[2]));
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (void *)&server, sizeof server) ||
	    getsockname(fd, (void *)&own, &size))
		return 1;
	printf("%s:%d\n", inet_ntop(AF_INET, &own.sin_addr, text, sizeof text),
	       ntohs(own.sin_port));
	fflush(stdout);
	ssize_t length = read(fd, greeting, sizeof greeting);
	return length > 0 && write(1, greeting, length) == length ? 0 : 1;
}
