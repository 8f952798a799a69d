/*
 * A program that knows nothing of WinDivert or sessionip: what is diverted.
 *
 *   talk  tcp|udp ADDRESS PORT TEXT   asks, prints the answer
 *   meet  tcp|udp|known-udp ..        the same, and prints both ends as it sees them;
 *                                     known-udp connects its socket first
 *   serve tcp|udp ADDRESS PORT COUNT  answers COUNT times with who asked what, and where
 *   serve both-tcp|both-udp ..        the same on a socket of IPv6 that takes IPv4, too
 *   later PROTOCOL ADDRESS PORT COUNT as serve, once it has been told a line
 *
 * Addresses are of either IP version. Built for both widths.
 */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of either version, and the longest text of one: "[ADDRESS]:PORT". */
typedef struct {
    struct sockaddr_storage name;
    int length;
} Name;
enum { TEXT = INET6_ADDRSTRLEN + 16 };

static int fail(const char *what)
{
    printf("%s: error %d\n", what, WSAGetLastError());
    return 1;
}

/* How an address is written, as everybody does. */
static const char *written(const Name *of, char text[TEXT])
{
    char address[INET6_ADDRSTRLEN] = "?", port[8] = "?";
    getnameinfo((const struct sockaddr *)&of->name, of->length, address, sizeof address, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, TEXT, of->name.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", address, port);
    return text;
}

static int read_name(Name *to, const char *address, const char *port)
{
    struct addrinfo *found, hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    if (getaddrinfo(address, port, &hints, &found))
        return 0;
    memcpy(&to->name, found->ai_addr, found->ai_addrlen);
    to->length = (int)found->ai_addrlen;
    freeaddrinfo(found);
    return 1;
}

static int talk(SOCKET with, const char *protocol, const Name *to, const char *text, int meets)
{
    char answer[256], own_text[TEXT], there_text[TEXT];
    int datagrams = !strcmp(protocol, "udp"), gone;
    Name there = *to, own = {.length = sizeof own.name};
    DWORD patience = 5000;
    setsockopt(with, SOL_SOCKET, SO_RCVTIMEO, (const char *)&patience, sizeof patience);
    if (!datagrams && connect(with, (const struct sockaddr *)&to->name, to->length))
        return fail("connect");
    gone = datagrams ? sendto(with, text, (int)strlen(text), 0, (const struct sockaddr *)&to->name, to->length)
                     : send(with, text, (int)strlen(text), 0);
    if (gone < 0)
        return fail("send");
    there.length = sizeof there.name;
    int got = datagrams ? recvfrom(with, answer, sizeof answer, 0, (struct sockaddr *)&there.name, &there.length)
                        : recv(with, answer, sizeof answer, 0);
    if (got <= 0)
        return fail("recv");
    if (meets) {
        if (!datagrams && getpeername(with, (struct sockaddr *)&there.name, &there.length))
            return fail("getpeername");
        if (getsockname(with, (struct sockaddr *)&own.name, &own.length))
            return fail("getsockname");
        printf("own %s far %s ", written(&own, own_text), written(&there, there_text));
    }
    printf("answer %.*s\n", got, answer);
    return 0;
}

static int serve(SOCKET at, int tcp, const Name *where, int count)
{
    char question[256], answer[256 + 2 * TEXT], text[TEXT], own_text[TEXT];
    Name own = {.length = sizeof own.name};
    if (bind(at, (const struct sockaddr *)&where->name, where->length))
        return fail("bind");
    if (tcp && listen(at, 5))
        return fail("listen");
    if (getsockname(at, (struct sockaddr *)&own.name, &own.length))
        return fail("getsockname");
    printf("serving at %s\n", written(&own, text));
    fflush(stdout);
    while (count-- > 0) {
        Name from = {.length = sizeof from.name};
        SOCKET with = tcp ? accept(at, (struct sockaddr *)&from.name, &from.length) : at;
        if (with == INVALID_SOCKET)
            return fail("accept");
        int got = tcp ? recv(with, question, sizeof question, 0)
                      : recvfrom(with, question, sizeof question, 0, (struct sockaddr *)&from.name, &from.length);
        if (got < 0)
            return fail("recv");
        own.length = sizeof own.name;
        if (getsockname(with, (struct sockaddr *)&own.name, &own.length))
            return fail("getsockname");
        int made = snprintf(answer, sizeof answer, "%s %.*s at %s", written(&from, text), got, question,
                            written(&own, own_text));
        if (tcp)
            send(with, answer, made, 0);
        else
            sendto(with, answer, made, 0, (const struct sockaddr *)&from.name, from.length);
        if (tcp)
            closesocket(with);
    }
    return 0;
}

int main(int count, char **words)
{
    WSADATA data;
    Name name;
    if (count != 6 || WSAStartup(0x202, &data) || !read_name(&name, words[3], words[4]))
        return fail("usage: talk talk|meet|serve|later PROTOCOL ADDRESS PORT TEXT|COUNT");
    int both = !strncmp(words[2], "both-", 5);
    const char *protocol = words[2] + (both ? 5 : 0);
    int tcp = !strcmp(protocol, "tcp"), meets = !strcmp(words[1], "meet");
    DWORD v6only = 0;
    if (!strcmp(words[1], "later")) {
        printf("waiting\n");
        fflush(stdout);
        getchar();
    }
    SOCKET made = socket(name.name.ss_family, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (both && setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, (const char *)&v6only, sizeof v6only))
        return fail("IPV6_V6ONLY");
    int code = meets || !strcmp(words[1], "talk") ? talk(made, protocol, &name, words[5], meets)
                                                   : serve(made, tcp, &name, atoi(words[5]));
    closesocket(made);
    return code;
}
