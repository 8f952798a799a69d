/*
 * What is in this packet, as the driver's own parser sees it?
 *
 * Follows windivert_parse_headers of the real driver case by case, because a
 * filter that is right on well-formed packets and wrong on others would hide
 * bugs of the product: exact total length, at most one fragment header, a TCP
 * header that claims more than there is cut to what there is.
 */
#include "packet.h"
#include <string.h>

enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, AUTHENTICATION = 51, DESTINATION = 60, MOBILITY = 135 };

uint32_t packet_claimed_length(const uint8_t *bytes, uint32_t room)
{
    if (room < 20)
        return 0;
    switch (bytes[0] >> 4) {
    case 4:
        return be16(bytes + 2);
    case 6:
        return room < 40 ? 0 : 40 + be16(bytes + 4);
    default:
        return 0;
    }
}

/* Walks over IPv6 extension headers; they end at a fragment that is not the first. */
static uint32_t skip_extensions(Packet *packet, uint32_t at)
{
    while (packet->fragment_offset == 0) {
        const uint8_t *header = packet->bytes + at;
        uint32_t left = packet->length - at, length;
        switch (packet->protocol) {
        case FRAGMENT:
            if (packet->fragment || left < 8)
                return at;
            packet->fragment = 1;
            packet->fragment_offset = (uint16_t)(be16(header + 2) & 0xFFF8u);
            packet->more_fragments = (be16(header + 2) & 1) != 0;
            length = 8;
            break;
        case AUTHENTICATION:
            if (left < 2)
                return at;
            length = (header[1] + 2u) * 4u;
            break;
        case HOP_BY_HOP:
        case DESTINATION:
        case ROUTING:
        case MOBILITY:
            if (left < 2)
                return at;
            length = (header[1] + 1u) * 8u;
            break;
        default:
            return at;
        }
        if (length > left)
            return at;
        packet->protocol = header[0];
        at += length;
    }
    return at;
}

static void find_transport(Packet *packet)
{
    const uint8_t *at = packet->bytes + packet->network_length;
    uint32_t left = packet->length - packet->network_length, length = 0;
    switch (packet->protocol) {
    case PROTOCOL_ICMP:
        if (packet->ipv4 && left >= 8) {
            packet->icmp = at;
            length = 8;
        }
        break;
    case PROTOCOL_ICMPV6:
        if (packet->ipv6 && left >= 8) {
            packet->icmpv6 = at;
            length = 8;
        }
        break;
    case PROTOCOL_TCP:
        if (left >= 20 && at[12] >> 4 >= 5) {
            packet->tcp = at;
            length = (at[12] >> 4) * 4u;
            if (length > left)
                length = left;
        }
        break;
    case PROTOCOL_UDP:
        if (left >= 8) {
            packet->udp = at;
            length = 8;
        }
        break;
    default:
        break;
    }
    packet->header_length += length;
}

int packet_parse(Packet *packet, const uint8_t *bytes, uint32_t length)
{
    memset(packet, 0, sizeof *packet);
    packet->bytes = bytes;
    packet->length = length;
    if (length < 20 || packet_claimed_length(bytes, length) != length)
        return 0;
    if (bytes[0] >> 4 == 4) {
        uint32_t header = (bytes[0] & 15u) * 4u;
        if (header < 20 || header > length)
            return 0;
        packet->ipv4 = bytes;
        packet->network_length = header;
        packet->protocol = bytes[9];
        packet->fragment_offset = (uint16_t)(be16(bytes + 6) & 0x1FFFu);
        packet->more_fragments = (be16(bytes + 6) & 0x2000u) != 0;
        packet->fragment = packet->fragment_offset != 0 || packet->more_fragments;
    } else {
        packet->ipv6 = bytes;
        packet->protocol = bytes[6];
        packet->network_length = skip_extensions(packet, 40);
    }
    packet->header_length = packet->network_length;
    if (packet->fragment_offset == 0)
        find_transport(packet);
    return 1;
}

uint16_t packet_source_port(const Packet *packet)
{
    const uint8_t *transport = packet->tcp ? packet->tcp : packet->udp;
    return transport ? (uint16_t)be16(transport) : 0;
}

uint16_t packet_destination_port(const Packet *packet)
{
    const uint8_t *transport = packet->tcp ? packet->tcp : packet->udp;
    return transport ? (uint16_t)be16(transport + 2) : 0;
}

static void words_of(const Packet *packet, uint32_t v4_at, uint32_t v6_at, uint32_t words[4])
{
    if (packet->ipv4) {
        words[0] = be32(packet->ipv4 + v4_at);
        words[1] = 0x0000FFFFu;
        words[2] = words[3] = 0;
        return;
    }
    for (int word = 0; word < 4; word++)
        words[3 - word] = be32(packet->ipv6 + v6_at + 4 * word);
}

void packet_source(const Packet *packet, uint32_t words[4]) { words_of(packet, 12, 8, words); }
void packet_destination(const Packet *packet, uint32_t words[4]) { words_of(packet, 16, 24, words); }
