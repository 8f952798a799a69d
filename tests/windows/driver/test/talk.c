/*
 * A program that knows nothing of WinDivert: what the rig's tests divert.
 *
 *   talk tcp|udp ADDRESS PORT TEXT     asks, prints the answer
 *   serve tcp|udp ADDRESS PORT COUNT   answers COUNT times with who asked
 */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what)
{
    printf("%s: error %d\n", what, WSAGetLastError());
    return 1;
}

static int talk(SOCKET with, int tcp, const struct sockaddr_in *to, const char *text)
{
    char answer[256];
    DWORD patience = 5000;
    setsockopt(with, SOL_SOCKET, SO_RCVTIMEO, (const char *)&patience, sizeof patience);
    if (tcp && connect(with, (const struct sockaddr *)to, sizeof *to))
        return fail("connect");
    int sent = tcp ? send(with, text, (int)strlen(text), 0)
                   : sendto(with, text, (int)strlen(text), 0, (const struct sockaddr *)to, sizeof *to);
    if (sent < 0)
        return fail("send");
    int got = recv(with, answer, sizeof answer, 0);
    if (got <= 0)
        return fail("recv");
    printf("answer %.*s\n", got, answer);
    return 0;
}

static int serve(SOCKET at, int tcp, const struct sockaddr_in *where, int count)
{
    struct sockaddr_in from;
    char question[256], answer[320];
    if (bind(at, (const struct sockaddr *)where, sizeof *where))
        return fail("bind");
    if (tcp && listen(at, 5))
        return fail("listen");
    printf("serving\n");
    fflush(stdout);
    while (count-- > 0) {
        int length = sizeof from, got;
        SOCKET with = tcp ? accept(at, (struct sockaddr *)&from, &length) : at;
        if (with == INVALID_SOCKET)
            return fail("accept");
        got = tcp ? recv(with, question, sizeof question, 0)
                  : recvfrom(with, question, sizeof question, 0, (struct sockaddr *)&from, &length);
        if (got < 0)
            return fail("recv");
        int made = snprintf(answer, sizeof answer, "%s:%d %.*s", inet_ntoa(from.sin_addr), ntohs(from.sin_port), got, question);
        if (tcp)
            send(with, answer, made, 0);
        else
            sendto(with, answer, made, 0, (const struct sockaddr *)&from, length);
        if (tcp)
            closesocket(with);
    }
    return 0;
}

int main(int count, char **words)
{
    WSADATA data;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (count != 6 || WSAStartup(0x202, &data))
        return fail("usage: talk talk|serve tcp|udp ADDRESS PORT TEXT|COUNT");
    int tcp = !strcmp(words[2], "tcp");
    address.sin_addr.s_addr = inet_addr(words[3]);
    address.sin_port = htons((u_short)atoi(words[4]));
    SOCKET made = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    int code = !strcmp(words[1], "talk") ? talk(made, tcp, &address, words[5]) : serve(made, tcp, &address, atoi(words[5]));
    closesocket(made);
    return code;
}
