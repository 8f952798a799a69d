/*
 * What do WinDivert.dll and its driver say to each other?
 *
 * The device protocol of WinDivert 2.2, read from its windivert_device.h and
 * written down again: control codes, the request block, a compiled filter, an
 * address. The stand-in driver and its tests share it.
 */
#pragma once
#include <stdint.h>

/* CTL_CODE(FILE_DEVICE_NETWORK, function, method, access) */
#define ABI_CODE(function, method, access)                                     \
    ((0x12u << 16) | ((access) << 14) | ((function) << 2) | (method))
#define ABI_IN_DIRECT 1u
#define ABI_OUT_DIRECT 2u
#define ABI_READ 1u
#define ABI_READ_WRITE 3u

enum {
    ABI_INITIALIZE = ABI_CODE(0x921u, ABI_OUT_DIRECT, ABI_READ_WRITE),
    ABI_STARTUP = ABI_CODE(0x922u, ABI_IN_DIRECT, ABI_READ_WRITE),
    ABI_RECV = ABI_CODE(0x923u, ABI_OUT_DIRECT, ABI_READ),
    ABI_SEND = ABI_CODE(0x924u, ABI_IN_DIRECT, ABI_READ_WRITE),
    ABI_SET_PARAM = ABI_CODE(0x925u, ABI_IN_DIRECT, ABI_READ_WRITE),
    ABI_GET_PARAM = ABI_CODE(0x926u, ABI_OUT_DIRECT, ABI_READ),
    ABI_SHUTDOWN = ABI_CODE(0x927u, ABI_IN_DIRECT, ABI_READ_WRITE),
};

#define ABI_MAGIC_DLL 0x4C4C447669645724ull
#define ABI_MAGIC_SYS 0x5359537669645723ull
#define ABI_MAJOR 2u
#define ABI_MINOR 2u

enum { LAYER_NETWORK = 0, LAYER_FORWARD = 1, LAYER_FLOW = 2, LAYER_SOCKET = 3, LAYER_REFLECT = 4 };

enum {
    EVENT_PACKET = 0,
    EVENT_BIND = 3,
    EVENT_CONNECT = 4,
    EVENT_LISTEN = 5,
    EVENT_ACCEPT = 6,
    EVENT_CLOSE = 7,
};

/* WINDIVERT_FLAG_* */
#define FLAG_SNIFF 0x01u
#define FLAG_DROP 0x02u
#define FLAG_RECV_ONLY 0x04u
#define FLAG_SEND_ONLY 0x08u
#define FLAG_NO_INSTALL 0x10u
#define FLAG_FRAGMENTS 0x20u
#define FLAGS_ALL 0x3Fu

/* WINDIVERT_FILTER_FLAG_*: which callouts the DLL found the filter to need. */
#define CALLOUT_INBOUND 0x10u
#define CALLOUT_OUTBOUND 0x20u
#define CALLOUT_IPV4 0x40u
#define CALLOUT_IPV6 0x80u
#define CALLOUT_BIND 0x200u
#define CALLOUT_CONNECT 0x400u
#define CALLOUT_LISTEN 0x800u
#define CALLOUT_ACCEPT 0x1000u
#define CALLOUT_CLOSE 0x2000u
#define CALLOUTS_ALL 0x3FF0u

#define PRIORITY_HIGHEST 30000u

enum { PARAM_LENGTH = 0, PARAM_TIME = 1, PARAM_SIZE = 2, PARAM_MAJOR = 3, PARAM_MINOR = 4 };

#define SHUTDOWN_RECV 1u
#define SHUTDOWN_SEND 2u

#define BATCH_MAX 255u
#define PACKET_MAX (40u + 0xFFFFu)

#pragma pack(push, 1)
/* What every control code begins with. */
typedef union {
    struct {
        uint64_t address;    /* WINDIVERT_ADDRESS array of the caller */
        uint64_t length_at;  /* its size in bytes, in and out; may be null */
    } recv;
    struct {
        uint64_t address;
        uint64_t length;
    } send;
    struct {
        uint32_t layer;
        uint32_t priority;
        uint64_t flags;
    } initialize;
    struct {
        uint64_t callouts;
    } startup;
    struct {
        uint32_t how;
    } shutdown;
    struct {
        uint32_t param;
    } get_param;
    struct {
        uint64_t value;
        uint32_t param;
    } set_param;
} Request;

typedef struct {
    uint64_t magic;
    uint32_t major, minor, bits, reserved32[3];
    uint64_t reserved64[4];
} Version;

/* One test of a compiled filter. `success` and `failure` are the next test. */
typedef struct {
    uint32_t field : 11;
    uint32_t test : 5;
    uint32_t success : 16;
    uint32_t failure : 16;
    uint32_t negative : 1;
    uint32_t reserved : 15;
    uint32_t argument[4];
} Test;
#pragma pack(pop)

#define FILTER_LONGEST 256u
#define FILTER_ACCEPT 0x7FFEu
#define FILTER_REJECT 0x7FFFu

enum { TEST_EQ, TEST_NEQ, TEST_LT, TEST_LEQ, TEST_GT, TEST_GEQ, TEST_LAST = TEST_GEQ };

typedef struct {
    uint32_t interface_index, subinterface_index;
} NetworkData;

typedef struct {
    uint64_t endpoint, parent_endpoint;
    uint32_t process;
    uint32_t local[4], remote[4]; /* host order, lowest word first */
    uint16_t local_port, remote_port;
    uint8_t protocol;
} SocketData;

typedef struct {
    int64_t timestamp;
    uint32_t layer : 8;
    uint32_t event : 8;
    uint32_t sniffed : 1;
    uint32_t outbound : 1;
    uint32_t loopback : 1;
    uint32_t impostor : 1;
    uint32_t ipv6 : 1;
    uint32_t ip_checksum : 1;
    uint32_t tcp_checksum : 1;
    uint32_t udp_checksum : 1;
    uint32_t reserved1 : 8;
    uint32_t reserved2;
    union {
        NetworkData network;
        SocketData socket;
        uint8_t reserved3[64];
    };
} Address;

_Static_assert(sizeof(Test) == 24, "WINDIVERT_FILTER");
_Static_assert(sizeof(Address) == 80, "WINDIVERT_ADDRESS");
_Static_assert(sizeof(Version) == 64, "WINDIVERT_VERSION");
_Static_assert(sizeof(Request) == 16, "WINDIVERT_IOCTL");

/* The fields of the filter language, by number (WINDIVERT_FILTER_FIELD_*). */
enum Field {
    FIELD_ZERO, FIELD_INBOUND, FIELD_OUTBOUND, FIELD_IFIDX, FIELD_SUBIFIDX,
    FIELD_IP, FIELD_IPV6, FIELD_ICMP, FIELD_TCP, FIELD_UDP, FIELD_ICMPV6,
    FIELD_IP_HDRLENGTH, FIELD_IP_TOS, FIELD_IP_LENGTH, FIELD_IP_ID, FIELD_IP_DF,
    FIELD_IP_MF, FIELD_IP_FRAGOFF, FIELD_IP_TTL, FIELD_IP_PROTOCOL,
    FIELD_IP_CHECKSUM, FIELD_IP_SRCADDR, FIELD_IP_DSTADDR,
    FIELD_IPV6_TRAFFICCLASS, FIELD_IPV6_FLOWLABEL, FIELD_IPV6_LENGTH,
    FIELD_IPV6_NEXTHDR, FIELD_IPV6_HOPLIMIT, FIELD_IPV6_SRCADDR,
    FIELD_IPV6_DSTADDR, FIELD_ICMP_TYPE, FIELD_ICMP_CODE, FIELD_ICMP_CHECKSUM,
    FIELD_ICMP_BODY, FIELD_ICMPV6_TYPE, FIELD_ICMPV6_CODE,
    FIELD_ICMPV6_CHECKSUM, FIELD_ICMPV6_BODY, FIELD_TCP_SRCPORT,
    FIELD_TCP_DSTPORT, FIELD_TCP_SEQNUM, FIELD_TCP_ACKNUM, FIELD_TCP_HDRLENGTH,
    FIELD_TCP_URG, FIELD_TCP_ACK, FIELD_TCP_PSH, FIELD_TCP_RST, FIELD_TCP_SYN,
    FIELD_TCP_FIN, FIELD_TCP_WINDOW, FIELD_TCP_CHECKSUM, FIELD_TCP_URGPTR,
    FIELD_TCP_PAYLOADLENGTH, FIELD_UDP_SRCPORT, FIELD_UDP_DSTPORT,
    FIELD_UDP_LENGTH, FIELD_UDP_CHECKSUM, FIELD_UDP_PAYLOADLENGTH,
    FIELD_LOOPBACK, FIELD_IMPOSTOR, FIELD_PROCESSID, FIELD_LOCALADDR,
    FIELD_REMOTEADDR, FIELD_LOCALPORT, FIELD_REMOTEPORT, FIELD_PROTOCOL,
    FIELD_ENDPOINTID, FIELD_PARENTENDPOINTID, FIELD_LAYER, FIELD_PRIORITY,
    FIELD_EVENT, FIELD_PACKET, FIELD_PACKET16, FIELD_PACKET32,
    FIELD_TCP_PAYLOAD, FIELD_TCP_PAYLOAD16, FIELD_TCP_PAYLOAD32,
    FIELD_UDP_PAYLOAD, FIELD_UDP_PAYLOAD16, FIELD_UDP_PAYLOAD32, FIELD_LENGTH,
    FIELD_TIMESTAMP, FIELD_RANDOM8, FIELD_RANDOM16, FIELD_RANDOM32,
    FIELD_FRAGMENT, FIELD_LAST = FIELD_FRAGMENT
};

_Static_assert(FIELD_FRAGMENT == 85 && FIELD_LOOPBACK == 58 && FIELD_TCP_SRCPORT == 38, "field numbers");
