/* Stands in for an interpreter: opens every argument that is a file, waits to be
 * told, binds a wildcard, says where it is, and stays. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	for (int i = 1; i < count; i++)
		open(arguments[i], O_RDONLY);
	puts("runs");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons(9000) };
	socklen_t length = sizeof name;
	if (bind(fd, (void *)&name, length) || listen(fd, 1) ||
	    getsockname(fd, (void *)&name, &length))
		return 2;
	printf("%s:%d\n", inet_ntoa(name.sin_addr), ntohs(name.sin_port));
	fflush(stdout);
	getchar();
	return 0;
}
