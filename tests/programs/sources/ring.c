/* As talk.c, but every call goes through io_uring, the bind and the connect by
 * a worker thread of the kernel (IOSQE_ASYNC). */
#include <arpa/inet.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* liburing 2.3 is older than Linux 6.11, which has these. */
enum { OP_BIND = 56, OP_LISTEN = 57 };

static struct io_uring ring;

/* Waits for what was asked for last. */
static int done(const char *what)
{
	struct io_uring_cqe *cqe;
	io_uring_submit_and_wait(&ring, 1);
	int failed = io_uring_wait_cqe(&ring, &cqe);
	int result = failed ? failed : cqe->res;
	if (result < 0) {
		fprintf(stderr, "%s by io_uring: %s\n", what, strerror(-result));
		exit(1);
	}
	io_uring_cqe_seen(&ring, cqe);
	return result;
}

int main(int count, char **words)
{
	char line[256];
	struct io_uring_sqe *sqe;
	struct sockaddr_in at = { .sin_family = AF_INET };
	int failed = io_uring_queue_init(8, &ring, 0);
	if (failed) {
		fprintf(stderr, "this kernel has no io_uring for users: %s\n", strerror(-failed));
		return 1;
	}
	io_uring_prep_socket(io_uring_get_sqe(&ring), AF_INET, SOCK_STREAM, 0, 0);
	int s = done("socket");
	if (count == 4) {
		at.sin_port = htons(atoi(words[2]));
		inet_pton(AF_INET, words[1], &at.sin_addr);
		sqe = io_uring_get_sqe(&ring);
		io_uring_prep_connect(sqe, s, (void *)&at, sizeof at);
		sqe->flags |= IOSQE_ASYNC;
		done("connect");
		int length = snprintf(line, sizeof line, "%s\n", words[3]);
		io_uring_prep_send(io_uring_get_sqe(&ring), s, line, length, 0);
		done("send");
		do
			io_uring_prep_recv(io_uring_get_sqe(&ring), s, line, sizeof line, 0);
		while (done("recv"));
		return 0;
	}
	at.sin_port = htons(atoi(words[1]));
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_rw(OP_BIND, sqe, s, &at, 0, sizeof at);
	sqe->flags |= IOSQE_ASYNC;
	done("bind");
	io_uring_prep_rw(OP_LISTEN, io_uring_get_sqe(&ring), s, 0, 5, 0);
	done("listen");
	for (;;) {
		io_uring_prep_accept(io_uring_get_sqe(&ring), s, 0, 0, 0);
		int c = done("accept");
		io_uring_prep_recv(io_uring_get_sqe(&ring), c, line, sizeof line - 1, 0);
		line[done("recv")] = 0;
		printf("%s", line);
		fflush(stdout);
		io_uring_prep_close(io_uring_get_sqe(&ring), c);
		done("close");
	}
}
