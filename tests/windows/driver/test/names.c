// What a program is told of the host's name and addresses.
//
//   names.exe ADDRESS    one line for each question; ADDRESS is the one whose name
//                        is asked for
#include <winsock2.h>
#include <ws2tcpip.h>
#include <iphlpapi.h>
#include <stdio.h>
#include <stdlib.h>

static void print(const SOCKADDR *name)
{
    const SOCKADDR_IN *ipv4 = (const SOCKADDR_IN *)name;
    printf(" %s", inet_ntoa(ipv4->sin_addr));
}

static void adapters(void)
{
    static char buffer[65536];
    ULONG size = sizeof(buffer);
    IP_ADAPTER_ADDRESSES *adapter = (IP_ADAPTER_ADDRESSES *)buffer;
    ULONG flags = GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST | GAA_FLAG_SKIP_DNS_SERVER;
    ULONG error = GetAdaptersAddresses(AF_INET, flags, NULL, adapter, &size);
    printf("adapters");
    if (error)
        printf(" error %lu", error);
    for (; !error && adapter; adapter = adapter->Next)
        for (IP_ADAPTER_UNICAST_ADDRESS *it = adapter->FirstUnicastAddress; it; it = it->Next)
            print(it->Address.lpSockaddr);
    printf("\n");
}

int main(int count, char **words)
{
    WSADATA data;
    char name[256], told[NI_MAXHOST];
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list = NULL;
    SOCKADDR_IN asked = {.sin_family = AF_INET};
    if (count != 2 || WSAStartup(0x0202, &data) || gethostname(name, sizeof(name)))
        return 2;
    asked.sin_addr.s_addr = inet_addr(words[1]);

    int error = getaddrinfo(name, NULL, &hints, &list);
    printf("getaddrinfo");
    if (error)
        printf(" error %d", error);
    for (struct addrinfo *it = list; !error && it; it = it->ai_next)
        print(it->ai_addr);
    printf("\n");
    if (!error)
        freeaddrinfo(list);

    struct hostent *host = gethostbyname(name);
    printf("gethostbyname");
    for (char **it = host ? host->h_addr_list : NULL; it && *it; it++)
        printf(" %s", inet_ntoa(*(struct in_addr *)*it));
    printf("\n");

    error = getnameinfo((SOCKADDR *)&asked, sizeof(asked), told, sizeof(told), NULL, 0, NI_NAMEREQD);
    printf("getnameinfo %s\n", error ? "error" : _stricmp(told, name) ? told : "the host's name");
    adapters();
    printf("done\n");
    return 0;
}
