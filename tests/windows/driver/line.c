/*
 * Which way does a packet take past the handles?
 *
 * From the highest priority to the lowest, as through WFP's callouts: the first
 * handle whose filter matches takes it (or a copy, if it sniffs). What a handle
 * injects goes on below its own priority. A packet that no handle takes any
 * more goes back to the kernel that holds it, or out by a raw socket if that
 * kernel holds none.
 */
#define STANDIN_HELPER
#include "standin.h"
#include "checksum.h"
#include <string.h>

/* A packet that a program has read. The kernel keeps the original for as long. */
typedef struct Taken {
    struct Taken *next_in_bucket, *older, *newer;
    int64_t timestamp, until;
    Origin origin;
} Taken;

#define BUCKETS 4096u
#define KEPT_MILLISECONDS 4000

static Taken *buckets[BUCKETS];
static Taken oldest_newest = {.older = &oldest_newest, .newer = &oldest_newest};
static uint8_t host[64][16];
static uint32_t hosts;

static Taken **place_of(int64_t timestamp)
{
    Taken **at = &buckets[(uint64_t)timestamp * 0x9E3779B97F4A7C15ull >> 52];
    while (*at && (*at)->timestamp != timestamp)
        at = &(*at)->next_in_bucket;
    return at;
}

static Origin forget(Taken **at)
{
    Taken *taken = *at;
    Origin origin = taken->origin;
    *at = taken->next_in_bucket;
    taken->older->newer = taken->newer;
    taken->newer->older = taken->older;
    standin_return(taken);
    return origin;
}

void line_was_read(int64_t timestamp, Origin origin)
{
    Taken *taken = standin_memory(sizeof *taken);
    if (!taken || !origin.generation) {
        standin_return(taken);
        link_drop(origin);
        return;
    }
    Taken **at = place_of(timestamp);
    taken->timestamp = timestamp;
    taken->until = standin_now() + KEPT_MILLISECONDS * standin_ticks();
    taken->origin = origin;
    taken->next_in_bucket = *at;
    *at = taken;
    taken->newer = &oldest_newest;
    taken->older = oldest_newest.older;
    taken->older->newer = taken;
    oldest_newest.older = taken;
}

void line_tick(void)
{
    int64_t now = standin_now();
    while (oldest_newest.newer != &oldest_newest && oldest_newest.newer->until < now)
        link_drop(forget(place_of(oldest_newest.newer->timestamp)));
}

void line_host_addresses(const uint8_t *addresses, uint32_t count)
{
    EnterCriticalSection(&standin_lock);
    hosts = count < 64 ? count : 64;
    memcpy(host, addresses, hosts * 16);
    LeaveCriticalSection(&standin_lock);
}

/* Whether this host is where the packet goes. */
static int stays_here(const Packet *packet)
{
    uint8_t address[16] = {0};
    if (packet->ipv4) {
        if (packet->ipv4[16] == 127)
            return 1;
        address[10] = address[11] = 0xFF;
        memcpy(address + 12, packet->ipv4 + 16, 4);
    } else {
        memcpy(address, packet->ipv6 + 24, 16);
    }
    for (uint32_t i = 0; i < hosts; i++)
        if (!memcmp(host[i], address, 16))
            return 1;
    return 0;
}

/* Nobody takes it any more. */
static void let_through(const Packet *packet, const uint8_t *bytes, uint32_t length, const Address *address,
                        Origin origin, int changed)
{
    if (origin.generation && origin.queue == (address->outbound ? QUEUE_OUTBOUND : QUEUE_INBOUND)) {
        link_accept(origin, changed ? bytes : NULL, length);
    } else {
        /* It left in another direction than it came, or is a new packet. */
        link_drop(origin);
        if (address->outbound)
            link_inject(bytes, length);
        else
            link_log("lost: an inbound packet that was not captured inbound cannot be injected here");
    }
    if (packet && (!address->outbound || address->loopback))
        sockets_after_inbound(packet, address->loopback);
}

static void go_on(uint64_t below, const uint8_t *bytes, uint32_t length, const Address *address, Origin origin,
                  int changed)
{
    Packet packet;
    int parsed = packet_parse(&packet, bytes, length);
    if (parsed && handle_offer_packet(&packet, address, origin, changed, below))
        return;
    let_through(parsed ? &packet : NULL, bytes, length, address, origin, changed);
}

void line_arrived(Origin origin, const uint8_t *bytes, uint32_t length, int loopback, uint32_t interface_index)
{
    Packet packet;
    Address address = {.layer = LAYER_NETWORK, .event = EVENT_PACKET};
    if (!packet_parse(&packet, bytes, length)) {
        link_accept(origin, NULL, 0);
        return;
    }
    address.outbound = origin.queue == QUEUE_OUTBOUND;
    address.loopback = loopback != 0;
    address.ipv6 = packet.ipv6 != NULL;
    address.network.interface_index = interface_index;
    if (address.outbound)
        sockets_before_outbound(&packet, loopback);
    EnterCriticalSection(&standin_lock);
    go_on(UINT64_MAX, bytes, length, &address, origin, 0);
    LeaveCriticalSection(&standin_lock);
}

/* The address as the next handle below sees an injected packet: the stack
 * routes again, and asks no NIC for checksums. */
static Address as_injected(const uint8_t *bytes, uint32_t length, const Address *from)
{
    Packet packet;
    Address address = *from;
    address.layer = LAYER_NETWORK;
    address.event = EVENT_PACKET;
    address.sniffed = 0;
    address.impostor = 0;
    address.ip_checksum = address.tcp_checksum = address.udp_checksum = 1;
    if (packet_parse(&packet, bytes, length)) {
        address.ipv6 = packet.ipv6 != NULL;
        address.loopback = address.outbound && stays_here(&packet);
    }
    return address;
}

long line_inject(uint32_t priority, uint8_t *bytes, uint32_t length, const Address *from)
{
    Origin origin = {0};
    Taken **at = place_of(from->timestamp);
    if (*at)
        origin = forget(at);
    checksum_complete(bytes, length, from);
    if (from->impostor && !checksum_decrement_ttl(bytes, length)) {
        link_drop(origin);
        return STATUS_HOPS_EXCEEDED;
    }
    if (!from->outbound && from->network.interface_index == 0) {
        link_drop(origin);
        return STATUS_BAD_PARAMETER;
    }
    Address address = as_injected(bytes, length, from);
    if (!from->outbound && origin.generation && origin.queue == QUEUE_OUTBOUND) {
        /* What Windows does with it (WinDivert issue 82): nothing, and no error. */
        link_log("lost: a packet captured outbound was sent inbound");
        link_drop(origin);
        return STATUS_OK;
    }
    go_on(priority, bytes, length, &address, origin, 1);
    return STATUS_OK;
}

void line_leave(uint32_t priority, uint8_t *bytes, uint32_t length, const Address *from, Origin origin, int changed)
{
    checksum_complete(bytes, length, from);
    Address address = as_injected(bytes, length, from);
    go_on(priority, bytes, length, &address, origin, changed);
}
