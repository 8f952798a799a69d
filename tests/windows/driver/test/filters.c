/*
 * Does the stand-in's interpreter agree with WinDivert's own?
 *
 * Every filter is compiled by the official DLL; its evaluation by
 * WinDivertHelperEvalFilter and by filter.c must be the same on every packet.
 * Every filter must match some packets and not others, or it would prove nothing.
 */
#include "../checksum.h"
#include "../filter.h"
#include "divert.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const for_packets[] = {
    /* what the product asks for */
    "outbound and ip.SrcAddr == 10.77.0.1 and (tcp or udp) and ip.DstAddr < 224.0.0.0",
    "outbound and !loopback and ip.SrcAddr == 10.77.0.1 and (tcp or udp) and ip.DstAddr < 224.0.0.0 and "
    "(tcp.SrcPort != 3389 or udp.SrcPort != 3389)",
    "inbound and ip.DstAddr >= 10.77.0.101 and ip.DstAddr <= 10.77.0.199",
    "(outbound and ip.SrcAddr == 10.77.0.1) or (inbound and ip.DstAddr >= 10.77.0.101 and ip.DstAddr <= 10.77.0.199)",
    "loopback and ip.DstAddr >= 10.77.0.101 and ip.DstAddr <= 10.77.0.199",
    "loopback and ip.DstAddr == 127.0.0.1 and (tcp.DstPort == 9000 or udp.DstPort == 9000)",
    "icmp and (icmp.Type == 3 or icmp.Type == 11 or icmp.Type == 12)",
    "inbound and icmp.Type == 3 and icmp.Code == 4",
    "ip.SrcAddr == 10.77.0.102 and tcp.SrcPort == 9000",
    "!loopback and ((ip and remoteAddr < 224.0.0.0) or (ipv6 and remoteAddr < ff00::)) and (tcp or udp)",
    /* directions, interfaces */
    "outbound", "inbound", "loopback", "not loopback", "impostor", "ifIdx == 2", "ifIdx != 2 and subIfIdx == 0",
    /* protocols */
    "ip", "ipv6", "tcp", "udp", "icmp", "icmpv6", "not tcp and not udp", "protocol == 17", "protocol == 47 or protocol == 50",
    /* IPv4 */
    "ip.HdrLength > 5", "ip.TOS == 0x10", "ip.Length < 64", "ip.Id >= 0x8000", "ip.DF", "ip.MF", "ip.FragOff > 0",
    "ip.TTL <= 64", "ip.Protocol == 6", "ip.Checksum > 0x7fff", "ip.SrcAddr != 10.77.0.1", "ip.DstAddr > 127.0.0.1",
    "fragment", "not fragment and udp",
    /* IPv6 */
    "ipv6.TrafficClass == 3", "ipv6.FlowLabel > 0x100", "ipv6.Length > 40", "ipv6.NextHdr == 44", "ipv6.HopLimit == 64",
    "ipv6.SrcAddr == fd77::1", "ipv6.DstAddr >= fd77::100 and ipv6.DstAddr <= fd77::1ff",
    /* ICMP */
    "icmp.Checksum > 0x1000", "icmp.Body == 0x00010002", "icmpv6.Type == 128", "icmpv6.Code != 0",
    "icmpv6.Checksum < 0x8000", "icmpv6.Body == 0x00010002",
    /* TCP */
    "tcp.SrcPort == 80", "tcp.DstPort >= 1024 and tcp.DstPort < 49152", "tcp.SeqNum > 0x7fffffff",
    "tcp.AckNum == 0", "tcp.HdrLength > 5", "tcp.Syn and !tcp.Ack", "tcp.Rst or tcp.Fin", "tcp.Urg", "tcp.Psh",
    "tcp.Window == 0xffff", "tcp.Checksum != 0", "tcp.UrgPtr > 100", "tcp.PayloadLength > 20", "tcp.PayloadLength == 0",
    /* UDP */
    "udp.SrcPort == 53", "udp.DstPort != 53", "udp.Length > 100", "udp.Checksum == 0", "udp.PayloadLength < 10",
    /* either */
    "localPort == 9000", "remotePort < 1024", "localAddr == 10.77.0.1", "remoteAddr == fd77::1",
    "localAddr >= ::ffff:10.77.0.0 and localAddr <= ::ffff:10.77.0.255",
    /* bytes */
    "length > 100", "packet[0] == 0x45", "packet[-1] > 0x7f", "packet16[6] == 0x0a4d", "packet32[4] > 0x0a4d0001",
    "tcp.Payload[0] == 0x47", "tcp.Payload16[1] > 0x4000", "tcp.Payload32[-1] != 0", "udp.Payload[3] < 0x80",
    "udp.Payload16[0] == 0x4747", "udp.Payload32[0] > 0x40000000",
    /* shapes */
    "(tcp? tcp.DstPort == 80: udp.DstPort == 53)", "true", "false",
    "not outbound or (!tcp and (udp and (udp.DstPort == 53 or (udp.DstPort == 80 and (ip? ip.TTL == 64: ipv6.HopLimit == 64)))))",
    "timestamp > 1000000", "timestamp < 0", "event == PACKET",
};

static const char *const for_events[] = {
    "true", "event == BIND", "event == CONNECT or event == ACCEPT", "event != CLOSE", "tcp", "udp and localPort == 9000",
    "protocol == 6", "processId == 400", "processId != 400 and processId > 4", "localAddr == 10.77.0.1",
    "localAddr == ::", "remoteAddr >= ::ffff:10.77.0.0 and remoteAddr <= ::ffff:10.77.0.255", "remotePort == 80",
    "remotePort != 0", "loopback", "outbound", "inbound", "endpointId > 0x100000000", "parentEndpointId == 0",
    "ip", "ipv6", "icmp or icmpv6", "(tcp or udp) and localPort >= 1024 and localPort < 49152",
};

/* What the official compiler takes, and this stand-in must refuse. */
static const char *const refused[] = {"random8 < 128", "random16 == 1", "random32 != 0"};

#define PACKETS 5000

static uint64_t state = 0x9E3779B97F4A7C15ull;
static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20) % below;
}

/* ---- the DLL's own notation for compiled filters ---- */

static uint32_t number(const char **at)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+=";
    uint32_t value = 0;
    for (;;) {
        const char *digit = strchr(digits, **at);
        CHECK(**at && digit, "not a digit in %s", *at);
        ++*at;
        value = value << 5 | ((digit - digits) & 31);
        if (digit - digits >= 32)
            return value;
    }
}

static uint32_t label(const char **at)
{
    switch (*(*at)++) {
    case 'A': return FILTER_ACCEPT;
    case 'X': return FILTER_REJECT;
    default: return number(at);
    }
}

static uint32_t read_object(const char *text, Test *tests)
{
    const char *at = text + 8;
    CHECK(!strncmp(text, "@WinDiv_", 8), "%s", text);
    CHECK(number(&at) == 0, "another version of %s", text);
    uint32_t count = number(&at);
    memset(tests, 0, count * sizeof *tests);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(*at++ == '_', "%s", text);
        Test *test = &tests[i];
        test->field = number(&at);
        test->test = number(&at);
        test->negative = number(&at);
        test->argument[0] = number(&at);
        if (test->field == FIELD_IPV6_SRCADDR || test->field == FIELD_IPV6_DSTADDR || test->field == FIELD_LOCALADDR ||
            test->field == FIELD_REMOTEADDR)
            for (int word = 1; word < 4; word++)
                test->argument[word] = number(&at);
        else if (test->field == FIELD_ENDPOINTID || test->field == FIELD_PARENTENDPOINTID || test->field == FIELD_TIMESTAMP)
            test->argument[1] = number(&at);
        else if (test->field >= FIELD_PACKET && test->field <= FIELD_UDP_PAYLOAD32)
            test->argument[1] = number(&at) - 0xFFFFu;
        else if (test->field == FIELD_IP_SRCADDR || test->field == FIELD_IP_DSTADDR)
            test->argument[1] = 0xFFFFu; /* left out of the notation */
        test->success = label(&at);
        test->failure = label(&at);
    }
    return count;
}

static uint32_t compile(const char *filter, int layer, char *object, Test *tests)
{
    const char *error = "";
    UINT at = 0;
    CHECK(divert.compile(filter, layer, object, 16384, &error, &at), "%s: %s at %u", filter, error, at);
    return read_object(object, tests);
}

/* ---- packets and events ---- */

static const uint32_t v4[] = {0x0A4D0001, 0x0A4D0002, 0x0A4D0065, 0x0A4D0066, 0x0A4D00C8, 0x7F000001, 0x7F000008, 0xE00000FB, 0x08080808};
static const uint8_t v6[][16] = {{0xFD, 0x77, [15] = 1}, {0xFD, 0x77, [14] = 1, [15] = 0x42}, {0xFF, 2, [15] = 0xFB}, {[15] = 1}};
static const uint16_t ports[] = {53, 80, 443, 3389, 9000, 50000, 1024};
#define ONE_OF(list) (list)[draw(sizeof(list) / sizeof *(list))]

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

/* A well-formed packet of any kind; fields that filters look at are drawn from
 * few values, the rest from all. */
static uint32_t make_packet(uint8_t *bytes, Address *address)
{
    uint32_t at, payload = draw(3) ? draw(160) : 0, is_v6 = draw(3) == 0, protocol;
    static const uint8_t protocols[] = {6, 6, 6, 17, 17, 17, 1, 1, 58, 47, 50};
    for (uint32_t i = 0; i < 400; i++)
        bytes[i] = draw(3) ? (uint8_t)draw(256) : 0x47;
    protocol = ONE_OF(protocols);
    if (is_v6) {
        at = 40;
        bytes[0] = 0x60 | draw(2);
        bytes[1] = draw(2) ? 0x30 : (uint8_t)draw(256);
        bytes[6] = (uint8_t)protocol;
        bytes[7] = draw(2) ? 64 : 128;
        memcpy(bytes + 8, ONE_OF(v6), 16);
        memcpy(bytes + 24, ONE_OF(v6), 16);
        static const uint8_t extensions[] = {0, 43, 44, 51, 60, 135};
        for (uint32_t previous = 6; draw(4) == 0 && at < 120;) {
            uint8_t kind = ONE_OF(extensions);
            bytes[at] = bytes[previous];
            bytes[previous] = kind;
            previous = at;
            bytes[at + 1] = (uint8_t)draw(2);
            if (kind == 44)
                put16(bytes + at + 2, draw(2) ? 1 : draw(200) << 3);
            at += kind == 44 ? 8 : kind == 51 ? (bytes[at + 1] + 2) * 4 : (bytes[at + 1] + 1) * 8;
        }
    } else {
        at = draw(4) ? 20 : 24 + 4 * draw(4);
        bytes[0] = 0x40 | (uint8_t)(at / 4);
        bytes[1] = draw(2) ? 0x10 : 0;
        put16(bytes + 6, draw(5) ? (draw(2) ? 0x4000 : 0) : (draw(2) ? 0x2000 : 0) | draw(3) * 100);
        bytes[8] = draw(2) ? 64 : 128;
        bytes[9] = (uint8_t)protocol;
        put32(bytes + 12, ONE_OF(v4));
        put32(bytes + 16, ONE_OF(v4));
    }
    if (protocol == 6) {
        put16(bytes + at, ONE_OF(ports));
        put16(bytes + at + 2, ONE_OF(ports));
        if (draw(3) == 0)
            put32(bytes + at + 8, 0);
        bytes[at + 12] = (uint8_t)((draw(8) ? 5 + draw(3) : draw(16)) << 4);
        if (draw(2))
            put16(bytes + at + 14, 0xFFFF);
        at += draw(20) ? 20 + 4 * draw(3) : draw(20); /* sometimes cut */
    } else if (protocol == 17) {
        put16(bytes + at, ONE_OF(ports));
        put16(bytes + at + 2, ONE_OF(ports));
        put16(bytes + at + 4, 8 + payload);
        if (draw(4) == 0)
            put16(bytes + at + 6, 0);
        at += draw(20) ? 8 : draw(8);
    } else if (protocol == 1 || protocol == 58) {
        static const uint8_t types[] = {0, 3, 3, 8, 11, 12, 128, 129};
        bytes[at] = ONE_OF(types);
        bytes[at + 1] = (uint8_t)(draw(2) ? draw(6) : 0);
        if (draw(2))
            put32(bytes + at + 4, 0x00010002);
        at += draw(20) ? 8 : draw(8);
    }
    uint32_t length = at + payload;
    put16(bytes + (is_v6 ? 4 : 2), is_v6 ? length - 40 : length);
    memset(address, 0, sizeof *address);
    address->ipv6 = is_v6;
    address->outbound = draw(2);
    address->loopback = address->outbound && draw(3) == 0;
    address->impostor = draw(8) == 0;
    address->network.interface_index = 1 + draw(3);
    address->network.subinterface_index = draw(2);
    address->timestamp = (int64_t)draw(2000000) - (draw(8) ? 0 : 1500000);
    return length;
}

static void make_words(uint32_t words[4], int ipv6)
{
    memset(words, 0, 16);
    if (draw(4) == 0)
        return;
    if (ipv6) {
        const uint8_t *from = ONE_OF(v6);
        for (int word = 0; word < 4; word++)
            words[3 - word] = be32(from + 4 * word);
    } else {
        words[0] = ONE_OF(v4);
        words[1] = 0xFFFF;
    }
}

static void make_event(Address *address)
{
    static const uint8_t protocols[] = {6, 17, 17, 6, 1, 58};
    memset(address, 0, sizeof *address);
    address->layer = LAYER_SOCKET;
    address->event = EVENT_BIND + draw(5);
    address->ipv6 = draw(3) == 0;
    address->outbound = draw(2);
    address->loopback = draw(3) == 0;
    address->socket.endpoint = (uint64_t)draw(4) << 31 | draw(1000);
    address->socket.parent_endpoint = draw(2) ? 0 : draw(1000);
    address->socket.process = draw(2) ? 400 : draw(9);
    make_words(address->socket.local, address->ipv6);
    make_words(address->socket.remote, address->ipv6);
    address->socket.local_port = ONE_OF(ports);
    address->socket.remote_port = draw(2) ? 0 : ONE_OF(ports);
    address->socket.protocol = ONE_OF(protocols);
}

static void show(const uint8_t *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        printf("%02x", bytes[i]);
    say(" ");
}

static uint8_t packets[PACKETS][512];
static uint32_t lengths[PACKETS];
static Address addresses[PACKETS], events[PACKETS];

static void compare(const char *filter, int layer)
{
    char object[16384];
    Test tests[FILTER_LONGEST];
    uint32_t count = compile(filter, layer, object, tests), matched = 0;
    CHECK(filter_valid(tests, count, (uint32_t)layer), "refused: %s", filter);
    for (uint32_t i = 0; i < PACKETS; i++) {
        Packet packet;
        int theirs, ours;
        if (layer == LAYER_NETWORK) {
            CHECK(packet_parse(&packet, packets[i], lengths[i]), "packet %u is not parsed", i);
            theirs = divert.eval(object, packets[i], lengths[i], &addresses[i]);
            ours = filter_match(tests, count, &addresses[i], &packet);
        } else {
            theirs = divert.eval(object, NULL, 0, &events[i]);
            ours = filter_match(tests, count, &events[i], NULL);
        }
        if (!theirs)
            CHECK(GetLastError() == 0, "not evaluated by WinDivert: %s", filter);
        if (theirs != ours && layer == LAYER_NETWORK)
            show(packets[i], lengths[i]);
        CHECK(theirs == ours, "%s: packet %u: WinDivert says %d, the stand-in %d", filter, i, theirs, ours);
        matched += ours;
    }
    int constant = !strcmp(filter, "true") || !strcmp(filter, "false") || strstr(filter, "event == PACKET") ||
                   (layer == LAYER_SOCKET && (!strcmp(filter, "ip") || !strcmp(filter, "ipv6")));
    CHECK(constant || (matched > 0 && matched < PACKETS), "proves nothing: %s matched %u of %u", filter, matched, PACKETS);
}

/* Objects that no compiler makes must not be taken either. */
static void refuse_damaged(void)
{
    char object[16384];
    Test tests[FILTER_LONGEST], damaged[FILTER_LONGEST];
    uint32_t count = compile(for_packets[0], LAYER_NETWORK, object, tests);
    CHECK(!filter_valid(tests, 0, LAYER_NETWORK), "an empty filter");
    CHECK(!filter_valid(tests, count, LAYER_SOCKET), "a packet's fields in a filter for events");
    CHECK(!filter_valid(tests, count, LAYER_REFLECT), "a layer that is not here");
#define DAMAGE(what)                                                                              \
    memcpy(damaged, tests, sizeof damaged);                                                       \
    what;                                                                                         \
    CHECK(!filter_valid(damaged, count, LAYER_NETWORK), "%s", #what)
    DAMAGE(damaged[0].field = FIELD_LAST + 1);
    DAMAGE(damaged[0].test = TEST_LAST + 1);
    DAMAGE(damaged[count - 1].success = count - 1); /* a loop */
    DAMAGE(damaged[0].failure = count);             /* out of it */
    DAMAGE(damaged[0].argument[0] = 2);             /* outbound == 2 */
    DAMAGE(damaged[0].negative = 1; damaged[0].argument[0] = 0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        count = compile(refused[i], LAYER_NETWORK, object, tests);
        CHECK(!filter_valid(tests, count, LAYER_NETWORK), "taken: %s", refused[i]);
    }
    uint8_t bytes[512];
    Address address;
    Packet packet;
    for (int i = 0; i < 1000; i++) {
        uint32_t length = make_packet(bytes, &address);
        CHECK(!packet_parse(&packet, bytes, length + 1) && !packet_parse(&packet, bytes, length - 1), "a wrong length");
    }
}

/* checksum.c against WinDivertHelperCalcChecksums, for every set of flags. */
static void compare_checksums(void)
{
    for (uint32_t i = 0; i < PACKETS; i++)
        for (uint32_t flags = 0; flags < 8; flags++) {
            uint8_t ours[512], theirs[512];
            memcpy(ours, packets[i], 512);
            memcpy(theirs, packets[i], 512);
            Address address = addresses[i];
            address.ip_checksum = flags & 1;
            address.tcp_checksum = flags >> 1 & 1;
            address.udp_checksum = flags >> 2 & 1;
            /* A TCP header that claims more than there is makes WinDivert read past the packet. */
            Packet packet;
            packet_parse(&packet, ours, lengths[i]);
            if (packet.tcp && (packet.tcp[12] >> 4) * 4u > lengths[i] - packet.network_length)
                continue;
            /* NO_IP 1, NO_ICMP 2, NO_ICMPV6 4, NO_TCP 8, NO_UDP 16 */
            divert.calc_checksums(theirs, lengths[i], NULL, (flags & 1) | 6 | (flags & 2) << 2 | (flags & 4) << 2);
            checksum_complete(ours, lengths[i], &address);
            CHECK(!memcmp(ours, theirs, lengths[i]), "checksums of packet %u with flags %u", i, flags);
        }
}

void test_filters(void)
{
    for (uint32_t i = 0; i < PACKETS; i++) {
        lengths[i] = make_packet(packets[i], &addresses[i]);
        make_event(&events[i]);
    }
    for (size_t i = 0; i < sizeof for_packets / sizeof *for_packets; i++)
        compare(for_packets[i], LAYER_NETWORK);
    for (size_t i = 0; i < sizeof for_events / sizeof *for_events; i++)
        compare(for_events[i], LAYER_SOCKET);
    refuse_damaged();
    compare_checksums();
    say("%u filters on %u packets, %u on %u events", (unsigned)(sizeof for_packets / sizeof *for_packets), PACKETS,
        (unsigned)(sizeof for_events / sizeof *for_events), PACKETS);
}
