/*
 * Does a compiled filter match?
 *
 * WinDivert.dll compiles a filter into tests of 24 bytes, each with the number
 * of the next test for success and for failure; the driver runs them. A field
 * that the packet does not have fails its test. What this file cannot evaluate
 * it refuses when the handle is opened, so nothing ever matches by accident.
 */
#include "filter.h"
#include <string.h>

enum Kind {
    NEVER,          /* no such field here: refused */
    ANY,            /* every packet and event has it */
    OF_NETWORK,     /* every packet has it, no event */
    OF_SOCKET,      /* every event has it, no packet */
    OF_IPV4, OF_IPV6, OF_ICMP, OF_ICMPV6, OF_TCP, OF_UDP,
};

/* Who has a field, and the largest argument it may be compared with. `words` is
 * how many words of the argument count (the driver compares the others of a
 * short field with nothing). */
typedef struct {
    uint8_t kind, words;
    uint32_t largest;
} Trait;

#define BYTE 0xFFu
#define SHORT 0xFFFFu
#define LONG 0xFFFFFFFFu

static const Trait traits[FIELD_LAST + 1] = {
    [FIELD_ZERO] = {ANY, 1, 1},
    [FIELD_INBOUND] = {ANY, 1, 1},
    [FIELD_OUTBOUND] = {ANY, 1, 1},
    [FIELD_IFIDX] = {OF_NETWORK, 1, LONG},
    [FIELD_SUBIFIDX] = {OF_NETWORK, 1, LONG},
    [FIELD_IP] = {ANY, 1, 1},
    [FIELD_IPV6] = {ANY, 1, 1},
    [FIELD_ICMP] = {ANY, 1, 1},
    [FIELD_TCP] = {ANY, 1, 1},
    [FIELD_UDP] = {ANY, 1, 1},
    [FIELD_ICMPV6] = {ANY, 1, 1},
    [FIELD_IP_HDRLENGTH] = {OF_IPV4, 1, 15},
    [FIELD_IP_TOS] = {OF_IPV4, 1, BYTE},
    [FIELD_IP_LENGTH] = {OF_IPV4, 1, SHORT},
    [FIELD_IP_ID] = {OF_IPV4, 1, SHORT},
    [FIELD_IP_DF] = {OF_IPV4, 1, 1},
    [FIELD_IP_MF] = {OF_IPV4, 1, 1},
    [FIELD_IP_FRAGOFF] = {OF_IPV4, 1, 0x1FFF},
    [FIELD_IP_TTL] = {OF_IPV4, 1, BYTE},
    [FIELD_IP_PROTOCOL] = {OF_IPV4, 1, BYTE},
    [FIELD_IP_CHECKSUM] = {OF_IPV4, 1, SHORT},
    [FIELD_IP_SRCADDR] = {OF_IPV4, 4, LONG},
    [FIELD_IP_DSTADDR] = {OF_IPV4, 4, LONG},
    [FIELD_IPV6_TRAFFICCLASS] = {OF_IPV6, 1, BYTE},
    [FIELD_IPV6_FLOWLABEL] = {OF_IPV6, 1, 0xFFFFF},
    [FIELD_IPV6_LENGTH] = {OF_IPV6, 1, SHORT},
    [FIELD_IPV6_NEXTHDR] = {OF_IPV6, 1, BYTE},
    [FIELD_IPV6_HOPLIMIT] = {OF_IPV6, 1, BYTE},
    [FIELD_IPV6_SRCADDR] = {OF_IPV6, 4, LONG},
    [FIELD_IPV6_DSTADDR] = {OF_IPV6, 4, LONG},
    [FIELD_ICMP_TYPE] = {OF_ICMP, 1, BYTE},
    [FIELD_ICMP_CODE] = {OF_ICMP, 1, BYTE},
    [FIELD_ICMP_CHECKSUM] = {OF_ICMP, 1, SHORT},
    [FIELD_ICMP_BODY] = {OF_ICMP, 1, LONG},
    [FIELD_ICMPV6_TYPE] = {OF_ICMPV6, 1, BYTE},
    [FIELD_ICMPV6_CODE] = {OF_ICMPV6, 1, BYTE},
    [FIELD_ICMPV6_CHECKSUM] = {OF_ICMPV6, 1, SHORT},
    [FIELD_ICMPV6_BODY] = {OF_ICMPV6, 1, LONG},
    [FIELD_TCP_SRCPORT] = {OF_TCP, 1, SHORT},
    [FIELD_TCP_DSTPORT] = {OF_TCP, 1, SHORT},
    [FIELD_TCP_SEQNUM] = {OF_TCP, 1, LONG},
    [FIELD_TCP_ACKNUM] = {OF_TCP, 1, LONG},
    [FIELD_TCP_HDRLENGTH] = {OF_TCP, 1, 15},
    [FIELD_TCP_URG] = {OF_TCP, 1, 1},
    [FIELD_TCP_ACK] = {OF_TCP, 1, 1},
    [FIELD_TCP_PSH] = {OF_TCP, 1, 1},
    [FIELD_TCP_RST] = {OF_TCP, 1, 1},
    [FIELD_TCP_SYN] = {OF_TCP, 1, 1},
    [FIELD_TCP_FIN] = {OF_TCP, 1, 1},
    [FIELD_TCP_WINDOW] = {OF_TCP, 1, SHORT},
    [FIELD_TCP_CHECKSUM] = {OF_TCP, 1, SHORT},
    [FIELD_TCP_URGPTR] = {OF_TCP, 1, SHORT},
    [FIELD_TCP_PAYLOADLENGTH] = {OF_TCP, 1, SHORT},
    [FIELD_UDP_SRCPORT] = {OF_UDP, 1, SHORT},
    [FIELD_UDP_DSTPORT] = {OF_UDP, 1, SHORT},
    [FIELD_UDP_LENGTH] = {OF_UDP, 1, SHORT},
    [FIELD_UDP_CHECKSUM] = {OF_UDP, 1, SHORT},
    [FIELD_UDP_PAYLOADLENGTH] = {OF_UDP, 1, SHORT},
    [FIELD_LOOPBACK] = {ANY, 1, LONG},
    [FIELD_IMPOSTOR] = {OF_NETWORK, 1, LONG},
    [FIELD_PROCESSID] = {OF_SOCKET, 1, LONG},
    [FIELD_LOCALADDR] = {ANY, 4, LONG},
    [FIELD_REMOTEADDR] = {ANY, 4, LONG},
    [FIELD_LOCALPORT] = {ANY, 1, SHORT},
    [FIELD_REMOTEPORT] = {ANY, 1, SHORT},
    [FIELD_PROTOCOL] = {ANY, 1, BYTE},
    [FIELD_ENDPOINTID] = {OF_SOCKET, 4, LONG},
    [FIELD_PARENTENDPOINTID] = {OF_SOCKET, 4, LONG},
    [FIELD_LAYER] = {NEVER, 0, 0},
    [FIELD_PRIORITY] = {NEVER, 0, 0},
    [FIELD_EVENT] = {ANY, 1, EVENT_CLOSE},
    [FIELD_PACKET] = {OF_NETWORK, 1, BYTE},
    [FIELD_PACKET16] = {OF_NETWORK, 1, SHORT},
    [FIELD_PACKET32] = {OF_NETWORK, 1, LONG},
    [FIELD_TCP_PAYLOAD] = {OF_TCP, 1, BYTE},
    [FIELD_TCP_PAYLOAD16] = {OF_TCP, 1, SHORT},
    [FIELD_TCP_PAYLOAD32] = {OF_TCP, 1, LONG},
    [FIELD_UDP_PAYLOAD] = {OF_UDP, 1, BYTE},
    [FIELD_UDP_PAYLOAD16] = {OF_UDP, 1, SHORT},
    [FIELD_UDP_PAYLOAD32] = {OF_UDP, 1, LONG},
    [FIELD_LENGTH] = {OF_NETWORK, 1, PACKET_MAX},
    [FIELD_TIMESTAMP] = {ANY, 4, LONG},
    /* The real driver draws these from a hash of headers and time. Nobody here
     * needs them. */
    [FIELD_RANDOM8] = {NEVER, 0, 0},
    [FIELD_RANDOM16] = {NEVER, 0, 0},
    [FIELD_RANDOM32] = {NEVER, 0, 0},
    [FIELD_FRAGMENT] = {OF_NETWORK, 1, 1},
};

/* A 128-bit number with a sign, lowest word first. */
typedef struct {
    uint32_t word[4];
    uint32_t negative;
} Number;

static int compare(const Number *a, const Number *b, uint32_t words)
{
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    for (uint32_t i = words; i-- > 0;)
        if (a->word[i] != b->word[i])
            return (a->word[i] < b->word[i]) != (a->negative != 0) ? -1 : 1;
    return 0;
}

static int is_indexed(uint32_t field) { return field >= FIELD_PACKET && field <= FIELD_UDP_PAYLOAD32; }

static int of_layer(uint32_t kind, uint32_t layer)
{
    switch (kind) {
    case ANY:
        return 1;
    case OF_SOCKET:
        return layer == LAYER_SOCKET;
    case NEVER:
        return 0;
    default:
        return layer == LAYER_NETWORK;
    }
}

/* The range checks of windivert_filter_compile. */
static int argument_valid(const Test *test, uint32_t layer)
{
    const Trait *trait = &traits[test->field];
    Number argument = {{0}, test->negative}, lowest = {{0}, 0}, largest = {{trait->largest}, 0};
    memcpy(argument.word, test->argument, sizeof argument.word);
    if (test->negative && !(argument.word[0] | argument.word[1] | argument.word[2] | argument.word[3]))
        return 0;
    if (is_indexed(test->field)) {
        int32_t index = (int32_t)test->argument[1];
        if (test->negative || index > (int32_t)PACKET_MAX || index < -(int32_t)PACKET_MAX)
            return 0;
        lowest.word[1] = largest.word[1] = test->argument[1];
    }
    switch (test->field) {
    case FIELD_EVENT:
        if (layer == LAYER_NETWORK ? argument.word[0] != EVENT_PACKET
                                   : argument.word[0] < EVENT_BIND || argument.word[0] > EVENT_CLOSE)
            return 0;
        break;
    case FIELD_LENGTH:
        lowest.word[0] = 20;
        break;
    case FIELD_IP_SRCADDR:
    case FIELD_IP_DSTADDR:
        lowest.word[1] = largest.word[1] = 0x0000FFFFu;
        break;
    case FIELD_TIMESTAMP:
        lowest = (Number){{0, 0x80000000u}, 1};
        largest.word[1] = 0x7FFFFFFFu;
        break;
    case FIELD_ENDPOINTID:
    case FIELD_PARENTENDPOINTID:
        largest.word[1] = LONG;
        break;
    case FIELD_IPV6_SRCADDR:
    case FIELD_IPV6_DSTADDR:
    case FIELD_LOCALADDR:
    case FIELD_REMOTEADDR:
        largest.word[1] = largest.word[2] = largest.word[3] = LONG;
        break;
    default:
        break;
    }
    return compare(&argument, &lowest, 4) >= 0 && compare(&argument, &largest, 4) <= 0;
}

static int leads_on(uint32_t next, uint32_t from, uint32_t count)
{
    return next == FILTER_ACCEPT || next == FILTER_REJECT || (next > from && next < count);
}

int filter_valid(const Test *tests, uint32_t count, uint32_t layer)
{
    if (count == 0 || count >= FILTER_LONGEST || (layer != LAYER_NETWORK && layer != LAYER_SOCKET))
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        const Test *test = &tests[i];
        if (test->field > FIELD_LAST || test->test > TEST_LAST || !of_layer(traits[test->field].kind, layer) ||
            !leads_on(test->success, i, count) || !leads_on(test->failure, i, count) ||
            !argument_valid(test, layer))
            return 0;
    }
    return 1;
}

static int has(uint32_t kind, const Packet *packet)
{
    switch (kind) {
    case OF_IPV4: return packet && packet->ipv4;
    case OF_IPV6: return packet && packet->ipv6;
    case OF_ICMP: return packet && packet->icmp;
    case OF_ICMPV6: return packet && packet->icmpv6;
    case OF_TCP: return packet && packet->tcp;
    case OF_UDP: return packet && packet->udp;
    case OF_NETWORK: return packet != 0;
    case OF_SOCKET: return packet == 0;
    case ANY: return 1;
    default: return 0;
    }
}

/* `size` bytes at an index that counts from `from`, or from `to` if negative. */
static int bytes_at(const Packet *packet, uint32_t from, uint32_t to, int32_t index, uint32_t size, uint32_t *value)
{
    int64_t at = (int64_t)index + (index < 0 ? to : from);
    if (at < from || at > (int64_t)to - size)
        return 0;
    *value = size == 1 ? packet->bytes[at] : size == 2 ? be16(packet->bytes + at) : be32(packet->bytes + at);
    return 1;
}

/* A field of a test that names a place in the packet. */
static int indexed_value(const Test *test, const Packet *packet, uint32_t *value)
{
    static const uint8_t sizes[3] = {1, 2, 4};
    uint32_t size = sizes[(test->field - FIELD_PACKET) % 3];
    uint32_t from = test->field < FIELD_TCP_PAYLOAD ? 0 : packet->header_length;
    return bytes_at(packet, from, packet->length, (int32_t)test->argument[1], size, value);
}

/* A field that packets alone have. */
static void packet_value(uint32_t field, const Packet *packet, Number *number)
{
    const uint8_t *v4 = packet->ipv4, *v6 = packet->ipv6, *tcp = packet->tcp, *udp = packet->udp;
    const uint8_t *icmp = packet->icmp ? packet->icmp : packet->icmpv6;
    uint32_t *value = number->word;
    switch (field) {
    case FIELD_LENGTH: *value = packet->length; break;
    case FIELD_FRAGMENT: *value = packet->fragment; break;
    case FIELD_IP_HDRLENGTH: *value = v4[0] & 15; break;
    case FIELD_IP_TOS: *value = v4[1]; break;
    case FIELD_IP_LENGTH: *value = be16(v4 + 2); break;
    case FIELD_IP_ID: *value = be16(v4 + 4); break;
    case FIELD_IP_DF: *value = (v4[6] & 0x40) != 0; break;
    case FIELD_IP_MF: *value = (v4[6] & 0x20) != 0; break;
    case FIELD_IP_FRAGOFF: *value = be16(v4 + 6) & 0x1FFF; break;
    case FIELD_IP_TTL: *value = v4[8]; break;
    case FIELD_IP_PROTOCOL: *value = v4[9]; break;
    case FIELD_IP_CHECKSUM: *value = be16(v4 + 10); break;
    case FIELD_IP_SRCADDR: case FIELD_IPV6_SRCADDR: packet_source(packet, value); break;
    case FIELD_IP_DSTADDR: case FIELD_IPV6_DSTADDR: packet_destination(packet, value); break;
    case FIELD_IPV6_TRAFFICCLASS: *value = (v6[0] & 15u) << 4 | v6[1] >> 4; break;
    /* As the real driver computes it: 8 bits further up than the label is. */
    case FIELD_IPV6_FLOWLABEL: *value = (uint32_t)v6[2] << 24 | (uint32_t)v6[3] << 16 | (v6[1] & 15u) << 8; break;
    case FIELD_IPV6_LENGTH: *value = be16(v6 + 4); break;
    case FIELD_IPV6_NEXTHDR: *value = v6[6]; break;
    case FIELD_IPV6_HOPLIMIT: *value = v6[7]; break;
    case FIELD_ICMP_TYPE: case FIELD_ICMPV6_TYPE: *value = icmp[0]; break;
    case FIELD_ICMP_CODE: case FIELD_ICMPV6_CODE: *value = icmp[1]; break;
    case FIELD_ICMP_CHECKSUM: case FIELD_ICMPV6_CHECKSUM: *value = be16(icmp + 2); break;
    case FIELD_ICMP_BODY: case FIELD_ICMPV6_BODY: *value = be32(icmp + 4); break;
    case FIELD_TCP_SRCPORT: *value = be16(tcp); break;
    case FIELD_TCP_DSTPORT: *value = be16(tcp + 2); break;
    case FIELD_TCP_SEQNUM: *value = be32(tcp + 4); break;
    case FIELD_TCP_ACKNUM: *value = be32(tcp + 8); break;
    case FIELD_TCP_HDRLENGTH: *value = tcp[12] >> 4; break;
    case FIELD_TCP_FIN: *value = tcp[13] & 1; break;
    case FIELD_TCP_SYN: *value = tcp[13] >> 1 & 1; break;
    case FIELD_TCP_RST: *value = tcp[13] >> 2 & 1; break;
    case FIELD_TCP_PSH: *value = tcp[13] >> 3 & 1; break;
    case FIELD_TCP_ACK: *value = tcp[13] >> 4 & 1; break;
    case FIELD_TCP_URG: *value = tcp[13] >> 5 & 1; break;
    case FIELD_TCP_WINDOW: *value = be16(tcp + 14); break;
    case FIELD_TCP_CHECKSUM: *value = be16(tcp + 16); break;
    case FIELD_TCP_URGPTR: *value = be16(tcp + 18); break;
    case FIELD_UDP_SRCPORT: *value = be16(udp); break;
    case FIELD_UDP_DSTPORT: *value = be16(udp + 2); break;
    case FIELD_UDP_LENGTH: *value = be16(udp + 4); break;
    case FIELD_UDP_CHECKSUM: *value = be16(udp + 6); break;
    case FIELD_TCP_PAYLOADLENGTH: case FIELD_UDP_PAYLOADLENGTH:
        *value = packet->length - packet->header_length;
        break;
    default: break;
    }
}

/* What stands for a port: for ICMP the type counts as the sender's. */
static uint32_t port(const Packet *packet, int senders)
{
    const uint8_t *icmp = packet->icmp ? packet->icmp : packet->icmpv6;
    if (packet->tcp || packet->udp)
        return senders ? packet_source_port(packet) : packet_destination_port(packet);
    return icmp && senders ? icmp[0] : 0;
}

/* A field that packets and events have, each in its own way. */
static void shared_value(uint32_t field, const Address *address, const Packet *packet, Number *number)
{
    const SocketData *socket = &address->socket;
    uint32_t *value = number->word;
    int local = field == FIELD_LOCALADDR || field == FIELD_LOCALPORT;
    switch (field) {
    case FIELD_INBOUND: *value = !address->outbound; break;
    case FIELD_OUTBOUND: *value = address->outbound; break;
    case FIELD_LOOPBACK: *value = address->loopback; break;
    case FIELD_IMPOSTOR: *value = address->impostor; break;
    case FIELD_IFIDX: *value = address->network.interface_index; break;
    case FIELD_SUBIFIDX: *value = address->network.subinterface_index; break;
    case FIELD_EVENT: *value = address->event; break;
    case FIELD_TIMESTAMP: {
        uint64_t size = address->timestamp < 0 ? -(uint64_t)address->timestamp : (uint64_t)address->timestamp;
        number->negative = address->timestamp < 0;
        value[0] = (uint32_t)size;
        value[1] = (uint32_t)(size >> 32);
        break;
    }
    /* "ip" and "ipv6" ask for a header, and an event has none: never true there. */
    case FIELD_IP: *value = packet && packet->ipv4; break;
    case FIELD_IPV6: *value = packet && packet->ipv6; break;
    case FIELD_ICMP: *value = packet ? packet->icmp != 0 : !address->ipv6 && socket->protocol == PROTOCOL_ICMP; break;
    case FIELD_ICMPV6: *value = packet ? packet->icmpv6 != 0 : address->ipv6 && socket->protocol == PROTOCOL_ICMPV6; break;
    case FIELD_TCP: *value = packet ? packet->tcp != 0 : socket->protocol == PROTOCOL_TCP; break;
    case FIELD_UDP: *value = packet ? packet->udp != 0 : socket->protocol == PROTOCOL_UDP; break;
    case FIELD_PROTOCOL: *value = packet ? packet->protocol : socket->protocol; break;
    case FIELD_PROCESSID: *value = socket->process; break;
    case FIELD_LOCALADDR:
    case FIELD_REMOTEADDR:
        if (!packet)
            memcpy(value, local ? socket->local : socket->remote, sizeof number->word);
        else if (local == (int)address->outbound)
            packet_source(packet, value);
        else
            packet_destination(packet, value);
        break;
    case FIELD_LOCALPORT:
    case FIELD_REMOTEPORT:
        if (!packet)
            *value = local ? socket->local_port : socket->remote_port;
        else
            *value = port(packet, local == (int)address->outbound);
        break;
    case FIELD_ENDPOINTID:
    case FIELD_PARENTENDPOINTID: {
        uint64_t id = field == FIELD_ENDPOINTID ? socket->endpoint : socket->parent_endpoint;
        value[0] = (uint32_t)id;
        value[1] = (uint32_t)(id >> 32);
        break;
    }
    default: break; /* FIELD_ZERO */
    }
}

static int passes(const Test *test, const Address *address, const Packet *packet)
{
    const Trait *trait = &traits[test->field];
    Number value = {{0}, 0}, argument = {{0}, test->negative};
    if (!has(trait->kind, packet))
        return 0;
    if (is_indexed(test->field)) {
        if (!indexed_value(test, packet, value.word))
            return 0;
    } else if (trait->kind == ANY || trait->kind == OF_SOCKET || test->field == FIELD_IFIDX ||
               test->field == FIELD_SUBIFIDX || test->field == FIELD_IMPOSTOR) {
        shared_value(test->field, address, packet, &value);
    } else {
        packet_value(test->field, packet, &value);
    }
    memcpy(argument.word, test->argument, sizeof argument.word);
    int order = compare(&value, &argument, trait->words);
    switch (test->test) {
    case TEST_EQ: return order == 0;
    case TEST_NEQ: return order != 0;
    case TEST_LT: return order < 0;
    case TEST_LEQ: return order <= 0;
    case TEST_GT: return order > 0;
    default: return order >= 0;
    }
}

int filter_match(const Test *tests, uint32_t count, const Address *address, const Packet *packet)
{
    uint32_t at = 0;
    /* Tests lead on to later ones only (filter_valid): this ends. */
    while (at < count) {
        at = passes(&tests[at], address, packet) ? tests[at].success : tests[at].failure;
        if (at == FILTER_ACCEPT)
            return 1;
        if (at == FILTER_REJECT)
            return 0;
    }
    return 0;
}
