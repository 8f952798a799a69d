/*
 * iphlpapi.dll for programs under Wine: addresses that come and go.
 *
 * Wine's own DLL reads the addresses of the machine, but cannot put one on or
 * take one off, and does not ask who has one. This DLL has the functions that
 * lack; all others are forwarded to Wine's, which lies beside it by another name
 * (install-standins). What is to be done is said to addresses-agent, a program
 * on the Linux side, one line for each request, and the agent is also what knows
 * of each address what Linux does not: whether it is still tentative, and
 * whether it is to be skipped as a source.
 */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <iphlpapi.h>
#include <stdio.h>

/* Wine's own, by its other name. */
NETIO_STATUS WINAPI WineGetUnicastIpAddressEntry(MIB_UNICASTIPADDRESS_ROW *row);
NETIO_STATUS WINAPI WineGetUnicastIpAddressTable(ADDRESS_FAMILY family,
                                                 MIB_UNICASTIPADDRESS_TABLE **table);
NETIO_STATUS WINAPI WineCancelMibChangeNotify2(HANDLE handle);
void WINAPI WineFreeMibTable(void *table);
NETIO_STATUS WINAPI WineConvertInterfaceIndexToLuid(NET_IFINDEX index, NET_LUID *luid);

#define AGENT "C:\\standin\\addresses-port.txt"
#define COMPLAINTS "C:\\standin\\complaints.txt"
#define NAME 64
/* How often the addresses are compared with what they were, in milliseconds. */
#define PAUSE 100
/* Room for the answer to "list": some hundred addresses. */
#define ANSWER 32768

/* An address as the agent knows it. */
struct known {
    unsigned long interface_index;
    char address[NAME];
    unsigned length, skip_as_source, dad_state;
};

/* Once: who polls would fill the disk. */
static void complain(const char *what)
{
    static LONG complained;
    FILE *file = InterlockedExchange(&complained, 1) ? NULL : fopen(COMPLAINTS, "a");

    if (file) {
        fprintf(file, "%lu: %s\n", GetCurrentProcessId(), what);
        fclose(file);
    }
}

/* Asks the agent; the answer ends with NUL. Returns whether there was one. */
static BOOL ask(const char *request, char *answer, int room)
{
    unsigned port = 0;
    int got, filled = 0;
    DWORD patience = 10000;
    WSADATA data;
    SOCKET agent;
    struct sockaddr_in to = {.sin_family = AF_INET};
    FILE *file = fopen(AGENT, "r");

    answer[0] = 0;
    if (file) {
        if (fscanf(file, "%u", &port) != 1)
            port = 0;
        fclose(file);
    }
    if (!port || WSAStartup(MAKEWORD(2, 2), &data)) {
        complain("no addresses-agent runs for this prefix");
        return FALSE;
    }
    to.sin_port = htons((u_short)port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    agent = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(agent, SOL_SOCKET, SO_RCVTIMEO, (const char *)&patience, sizeof patience);
    if (!connect(agent, (struct sockaddr *)&to, sizeof to)
        && send(agent, request, (int)strlen(request), 0) > 0)
        while (filled < room - 1 && (got = recv(agent, answer + filled, room - 1 - filled, 0)) > 0)
            filled += got;
    answer[filled] = 0;
    closesocket(agent);
    WSACleanup();
    if (!filled)
        complain("addresses-agent does not answer");
    return filled > 0;
}

/* The number that an answer begins with. */
static DWORD ask_for_code(const char *request)
{
    char answer[NAME];
    unsigned long code;

    if (!ask(request, answer, sizeof answer) || sscanf(answer, "%lu", &code) != 1)
        return ERROR_SERVICE_NOT_ACTIVE;
    return code;
}

/* Fails for a row that names no interface or no address. */
static BOOL understand(const MIB_UNICASTIPADDRESS_ROW *row, char *address, unsigned long *interface_index)
{
    const SOCKADDR_INET *at = row ? &row->Address : NULL;

    if (!at)
        return FALSE;
    *interface_index = row->InterfaceIndex ? row->InterfaceIndex
                                           : (unsigned long)row->InterfaceLuid.Info.NetLuidIndex;
    if (at->si_family == AF_INET)
        return *interface_index && inet_ntop(AF_INET, (void *)&at->Ipv4.sin_addr, address, NAME);
    if (at->si_family == AF_INET6)
        return *interface_index && inet_ntop(AF_INET6, (void *)&at->Ipv6.sin6_addr, address, NAME);
    return FALSE;
}

static BOOL same(const struct known *known, const MIB_UNICASTIPADDRESS_ROW *row)
{
    char address[NAME];
    unsigned long interface_index;

    return understand(row, address, &interface_index) && known->interface_index == interface_index
           && !strcmp(known->address, address);
}

/* One line of the answer to "list"; returns where the next begins, or NULL. */
static const char *next(const char *line, struct known *known)
{
    const char *end = line ? strchr(line, '\n') : NULL;

    if (!end
        || sscanf(line, "%lu %63s %u %u %u", &known->interface_index, known->address, &known->length,
                  &known->skip_as_source, &known->dad_state) != 5)
        return NULL;
    return end + 1;
}

static void adorn(MIB_UNICASTIPADDRESS_ROW *row, const struct known *known)
{
    row->OnLinkPrefixLength = (UINT8)known->length;
    row->SkipAsSource = known->skip_as_source != 0;
    row->DadState = known->dad_state;
    row->PrefixOrigin = IpPrefixOriginManual;
    row->SuffixOrigin = IpSuffixOriginManual;
}

/* A row for an address that Linux does not have yet, or will not get. */
static void invent(MIB_UNICASTIPADDRESS_ROW *row, const struct known *known)
{
    memset(row, 0, sizeof *row);
    if (inet_pton(AF_INET, known->address, &row->Address.Ipv4.sin_addr) == 1)
        row->Address.si_family = AF_INET;
    else if (inet_pton(AF_INET6, known->address, &row->Address.Ipv6.sin6_addr) == 1)
        row->Address.si_family = AF_INET6;
    row->InterfaceIndex = known->interface_index;
    WineConvertInterfaceIndexToLuid(known->interface_index, &row->InterfaceLuid);
    row->ValidLifetime = row->PreferredLifetime = 0xffffffff;
    adorn(row, known);
}

void WINAPI InitializeUnicastIpAddressEntry(MIB_UNICASTIPADDRESS_ROW *row)
{
    memset(row, 0, sizeof *row);
    row->PrefixOrigin = IpPrefixOriginUnchanged;
    row->SuffixOrigin = IpSuffixOriginUnchanged;
    row->OnLinkPrefixLength = 255;
    row->PreferredLifetime = row->ValidLifetime = 0xffffffff;
    row->DadState = IpDadStateInvalid;
}

NETIO_STATUS WINAPI CreateUnicastIpAddressEntry(const MIB_UNICASTIPADDRESS_ROW *row)
{
    char address[NAME], request[2 * NAME];
    unsigned long interface_index;
    unsigned length;

    if (!understand(row, address, &interface_index))
        return ERROR_INVALID_PARAMETER;
    length = row->OnLinkPrefixLength;
    if (length == 255)
        length = row->Address.si_family == AF_INET ? 32 : 128;
    snprintf(request, sizeof request, "add %lu %s %u %d\n", interface_index, address, length,
             row->SkipAsSource != 0);
    return ask_for_code(request);
}

NETIO_STATUS WINAPI DeleteUnicastIpAddressEntry(const MIB_UNICASTIPADDRESS_ROW *row)
{
    char address[NAME], request[2 * NAME];
    unsigned long interface_index;

    if (!understand(row, address, &interface_index))
        return ERROR_INVALID_PARAMETER;
    snprintf(request, sizeof request, "delete %lu %s\n", interface_index, address);
    return ask_for_code(request);
}

NETIO_STATUS WINAPI GetUnicastIpAddressEntry(MIB_UNICASTIPADDRESS_ROW *row)
{
    NETIO_STATUS status = WineGetUnicastIpAddressEntry(row);
    char answer[ANSWER];
    const char *line = answer;
    struct known known;

    if (status != NO_ERROR && status != ERROR_NOT_FOUND)
        return status;
    if (!ask("list\n", answer, sizeof answer))
        return status;
    while ((line = next(line, &known)))
        if (same(&known, row)) {
            if (status == NO_ERROR)
                adorn(row, &known);
            else
                invent(row, &known);
            return NO_ERROR;
        }
    return status;
}

NETIO_STATUS WINAPI GetUnicastIpAddressTable(ADDRESS_FAMILY family, MIB_UNICASTIPADDRESS_TABLE **table)
{
    NETIO_STATUS status = WineGetUnicastIpAddressTable(family, table);
    MIB_UNICASTIPADDRESS_TABLE *whole;
    MIB_UNICASTIPADDRESS_ROW row;
    char answer[ANSWER];
    const char *line = answer;
    struct known known;
    ULONG i, unseen = 0;

    if (status != NO_ERROR || !ask("list\n", answer, sizeof answer))
        return status;
    for (const char *at = answer; (at = strchr(at, '\n')); at++)
        unseen++;
    /* From the same heap as Wine's, for FreeMibTable to free. */
    whole = HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY,
                      sizeof *whole + ((*table)->NumEntries + unseen) * sizeof row);
    if (!whole)
        return status;
    whole->NumEntries = (*table)->NumEntries;
    memcpy(whole->Table, (*table)->Table, whole->NumEntries * sizeof row);
    WineFreeMibTable(*table);
    *table = whole;
    while ((line = next(line, &known))) {
        for (i = 0; i < whole->NumEntries && !same(&known, &whole->Table[i]); i++)
            ;
        if (i < whole->NumEntries) {
            adorn(&whole->Table[i], &known);
            continue;
        }
        invent(&row, &known);
        if (family == AF_UNSPEC || family == row.Address.si_family)
            whole->Table[whole->NumEntries++] = row;
    }
    return status;
}

DWORD WINAPI SendARP(IPAddr to, IPAddr from, void *address, ULONG *length)
{
    char to_text[NAME], from_text[NAME], request[3 * NAME], answer[NAME];
    unsigned long code;
    unsigned byte[6];
    int i;

    if (!address || !length || *length < 6)
        return ERROR_INVALID_PARAMETER;
    inet_ntop(AF_INET, &to, to_text, sizeof to_text);
    inet_ntop(AF_INET, &from, from_text, sizeof from_text);
    snprintf(request, sizeof request, "arp %s %s\n", to_text, from_text);
    if (!ask(request, answer, sizeof answer) || sscanf(answer, "%lu", &code) != 1)
        return ERROR_GEN_FAILURE;
    if (code)
        return code;
    if (sscanf(answer, "0 %2x:%2x:%2x:%2x:%2x:%2x", byte, byte + 1, byte + 2, byte + 3, byte + 4,
               byte + 5) != 6)
        return ERROR_GEN_FAILURE;
    for (i = 0; i < 6; i++)
        ((unsigned char *)address)[i] = (unsigned char)byte[i];
    *length = 6;
    return NO_ERROR;
}

/* Somebody who wants to be told of changes. */
struct watch {
    struct watch *next;
    HANDLE stop, thread;
    ADDRESS_FAMILY family;
    PUNICAST_IPADDRESS_CHANGE_CALLBACK callback;
    void *context;
    MIB_UNICASTIPADDRESS_TABLE *before;
};

static struct watch *watches;
static SRWLOCK watches_lock = SRWLOCK_INIT;

/* As documented, the row that is told has which address it is, and no more. */
static void tell(const struct watch *watch, const MIB_UNICASTIPADDRESS_ROW *of, MIB_NOTIFICATION_TYPE kind)
{
    MIB_UNICASTIPADDRESS_ROW row = {.Address = of->Address,
                                    .InterfaceLuid = of->InterfaceLuid,
                                    .InterfaceIndex = of->InterfaceIndex};
    watch->callback(watch->context, &row, kind);
}

static const MIB_UNICASTIPADDRESS_ROW *find(const MIB_UNICASTIPADDRESS_TABLE *table,
                                            const MIB_UNICASTIPADDRESS_ROW *row)
{
    ULONG i;

    for (i = 0; i < table->NumEntries; i++)
        if (table->Table[i].InterfaceIndex == row->InterfaceIndex
            && table->Table[i].Address.si_family == row->Address.si_family
            && (row->Address.si_family == AF_INET
                    ? table->Table[i].Address.Ipv4.sin_addr.s_addr == row->Address.Ipv4.sin_addr.s_addr
                    : !memcmp(&table->Table[i].Address.Ipv6.sin6_addr, &row->Address.Ipv6.sin6_addr, 16)))
            return &table->Table[i];
    return NULL;
}

static DWORD WINAPI follow(void *argument)
{
    struct watch *watch = argument;
    const MIB_UNICASTIPADDRESS_ROW *row, *old;
    MIB_UNICASTIPADDRESS_TABLE *now;
    ULONG i;

    while (WaitForSingleObject(watch->stop, PAUSE) == WAIT_TIMEOUT) {
        if (GetUnicastIpAddressTable(watch->family, &now))
            continue;
        for (i = 0; i < watch->before->NumEntries; i++)
            if (!find(now, &watch->before->Table[i]))
                tell(watch, &watch->before->Table[i], MibDeleteInstance);
        for (i = 0; i < now->NumEntries; i++) {
            row = &now->Table[i];
            old = find(watch->before, row);
            if (!old)
                tell(watch, row, MibAddInstance);
            else if (old->DadState != row->DadState || old->SkipAsSource != row->SkipAsSource)
                tell(watch, row, MibParameterNotification);
        }
        WineFreeMibTable(watch->before);
        watch->before = now;
    }
    return 0;
}

NETIO_STATUS WINAPI NotifyUnicastIpAddressChange(ADDRESS_FAMILY family,
                                                 PUNICAST_IPADDRESS_CHANGE_CALLBACK callback, void *context,
                                                 BOOLEAN initially, HANDLE *handle)
{
    struct watch *watch;
    NETIO_STATUS status;

    if (!callback || !handle || (family != AF_UNSPEC && family != AF_INET && family != AF_INET6))
        return ERROR_INVALID_PARAMETER;
    watch = HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, sizeof *watch);
    if (!watch)
        return ERROR_NOT_ENOUGH_MEMORY;
    watch->family = family;
    watch->callback = callback;
    watch->context = context;
    status = GetUnicastIpAddressTable(family, &watch->before);
    if (status) {
        HeapFree(GetProcessHeap(), 0, watch);
        return status;
    }
    watch->stop = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (initially)
        callback(context, NULL, MibInitialNotification);
    AcquireSRWLockExclusive(&watches_lock);
    watch->next = watches;
    watches = watch;
    ReleaseSRWLockExclusive(&watches_lock);
    *handle = watch;
    watch->thread = CreateThread(NULL, 0, follow, watch, 0, NULL);
    return NO_ERROR;
}

/* When it returns, nobody is told any more. */
NETIO_STATUS WINAPI CancelMibChangeNotify2(HANDLE handle)
{
    struct watch **at, *watch;

    AcquireSRWLockExclusive(&watches_lock);
    for (at = &watches; *at && *at != handle; at = &(*at)->next)
        ;
    watch = *at;
    if (watch)
        *at = watch->next;
    ReleaseSRWLockExclusive(&watches_lock);
    if (!watch)
        return WineCancelMibChangeNotify2(handle);
    SetEvent(watch->stop);
    WaitForSingleObject(watch->thread, INFINITE);
    CloseHandle(watch->thread);
    CloseHandle(watch->stop);
    WineFreeMibTable(watch->before);
    HeapFree(GetProcessHeap(), 0, watch);
    return NO_ERROR;
}
