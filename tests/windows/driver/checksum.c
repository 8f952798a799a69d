/*
 * Which checksums does a packet carry?
 *
 * Sums are RFC 1071's. The pseudo-header of TCP and UDP is RFC 9293's and
 * RFC 8200's; an IPv4 UDP checksum that comes out as zero is sent as 0xFFFF.
 */
#include "checksum.h"
#include "packet.h"

static uint32_t add(uint32_t sum, const uint8_t *bytes, uint32_t length)
{
    for (; length > 1; bytes += 2, length -= 2)
        sum += be16(bytes);
    return length ? sum + ((uint32_t)bytes[0] << 8) : sum;
}

static uint32_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xFFFFu) + (sum >> 16);
    return sum;
}

static uint32_t pseudo_header(const Packet *packet, uint32_t transport_length)
{
    uint32_t sum = packet->ipv4 ? add(0, packet->ipv4 + 12, 8) : add(0, packet->ipv6 + 8, 32);
    return sum + packet->protocol + (transport_length >> 16) + (transport_length & 0xFFFFu);
}

/* Where the checksum of TCP or UDP is; null where there is none to compute. */
static uint8_t *transport_checksum(const Packet *packet, uint8_t *bytes)
{
    if (packet->fragment_offset || packet->more_fragments)
        return 0;
    if (packet->tcp)
        return bytes + packet->network_length + 16;
    return packet->udp ? bytes + packet->network_length + 6 : 0;
}

void checksum_complete(uint8_t *bytes, uint32_t length, const Address *address)
{
    Packet packet;
    if (!packet_parse(&packet, bytes, length))
        return;
    if (packet.ipv4 && !address->ip_checksum) {
        put16(bytes + 10, 0);
        put16(bytes + 10, ~fold(add(0, bytes, (bytes[0] & 15u) * 4u)));
    }
    uint8_t *at = transport_checksum(&packet, bytes);
    if (!at || (packet.tcp ? address->tcp_checksum : address->udp_checksum))
        return;
    uint32_t transport = length - packet.network_length;
    put16(at, 0);
    uint32_t sum = ~fold(pseudo_header(&packet, transport) + add(0, bytes + packet.network_length, transport));
    put16(at, packet.udp && !(sum & 0xFFFFu) ? 0xFFFFu : sum);
}

void checksum_leave_to_nic(uint8_t *bytes, uint32_t length)
{
    Packet packet;
    if (!packet_parse(&packet, bytes, length))
        return;
    if (packet.ipv4)
        put16(bytes + 10, 0);
    uint8_t *at = transport_checksum(&packet, bytes);
    /* A datagram sent without a checksum asks no NIC for one. */
    if (at && !(packet.udp && be16(at) == 0))
        put16(at, fold(pseudo_header(&packet, length - packet.network_length)));
}

int checksum_decrement_ttl(uint8_t *bytes, uint32_t length)
{
    Packet packet;
    if (!packet_parse(&packet, bytes, length))
        return 0;
    uint8_t *hops = packet.ipv4 ? bytes + 8 : bytes + 7;
    if (*hops <= 1)
        return 0;
    --*hops;
    if (packet.ipv4) /* RFC 1624: the word that holds the TTL became 0x100 less. */
        put16(bytes + 10, fold(be16(bytes + 10) + 0x100u));
    return 1;
}
