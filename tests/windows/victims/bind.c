/* A program as people write it: it listens on every address, and says where it
 * came to listen. It knows nothing of sessionip.
 *
 *     bind.exe PORT [--later] [--wait | --start PROGRAM PORT]
 *
 * With --later it waits for a line before it listens, with --wait after that; with
 * --start it starts another copy, of any width, and waits for its end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winsock2.h>
#include <ws2tcpip.h>

static void say(const char *what, SOCKET s)
{
	struct sockaddr_in name;
	int length = sizeof name;
	if (getsockname(s, (struct sockaddr *)&name, &length) != 0) {
		printf("%s=error %d\n", what, WSAGetLastError());
		return;
	}
	unsigned char *a = (unsigned char *)&name.sin_addr;
	printf("%s=%d.%d.%d.%d:%d\n", what, a[0], a[1], a[2], a[3], ntohs(name.sin_port));
}

static SOCKET listener(int kind, int protocol, const char *what, int port)
{
	struct sockaddr_in name;
	memset(&name, 0, sizeof name);
	name.sin_family = AF_INET;
	name.sin_addr.s_addr = htonl(INADDR_ANY);
	name.sin_port = htons((unsigned short)port);
	SOCKET s = socket(AF_INET, kind, protocol);
	if (bind(s, (struct sockaddr *)&name, sizeof name) != 0) {
		printf("%s=error %d\n", what, WSAGetLastError());
		return s;
	}
	if (kind == SOCK_STREAM)
		listen(s, 5);
	say(what, s);
	return s;
}

static int start(const char *program, const char *port)
{
	char line[2048];
	STARTUPINFOA startup;
	PROCESS_INFORMATION process;
	memset(&startup, 0, sizeof startup);
	startup.cb = sizeof startup;
	startup.dwFlags = STARTF_USESTDHANDLES;
	startup.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
	startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
	startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
	snprintf(line, sizeof line, "\"%s\" %s", program, port);
	if (!CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process)) {
		printf("start=error %lu\n", (unsigned long)GetLastError());
		return 1;
	}
	WaitForSingleObject(process.hProcess, 60000);
	return 0;
}

int main(int argc, char **argv)
{
	WSADATA data;
	if (argc < 2 || WSAStartup(MAKEWORD(2, 2), &data) != 0)
		return 2;
	int port = atoi(argv[1]);
	int later = argc > 2 && strcmp(argv[2], "--later") == 0;
	if (later) {
		printf("ready\n");
		fflush(stdout);
		getchar();
	}
	argc -= later;
	argv += later;
	listener(SOCK_STREAM, IPPROTO_TCP, "tcp", port);
	listener(SOCK_DGRAM, IPPROTO_UDP, "udp", port);
	fflush(stdout);
	if (argc > 2 && strcmp(argv[2], "--wait") == 0)
		getchar();
	if (argc > 4 && strcmp(argv[2], "--start") == 0)
		return start(argv[3], argv[4]);
	return 0;
}
