/*
 * What do the parts of the stand-in driver need of each other?
 *
 * driver.c is the device; everything else is in wdnet.dll, because a driver
 * under Wine may import ntoskrnl.exe and such a DLL, but not Win32 itself.
 *
 * One lock (`standin_lock`) guards handles, queues and the table of packets
 * that were read. Functions whose comment says "locked" are called with it.
 */
#pragma once
#include "abi.h"

/* NTSTATUS, and what WinDivert's caller sees for it. */
#define STATUS_OK 0x00000000l
#define STATUS_WAITING 0x00000103l
#define STATUS_BAD_PARAMETER ((long)0xC000000Dl)    /* 87 */
#define STATUS_TOO_SMALL ((long)0xC0000023l)        /* 122 */
#define STATUS_NO_MEMORY_LEFT ((long)0xC000009Al)   /* 1450 */
#define STATUS_NOT_SUPPORTED_HERE ((long)0xC00000BBl) /* 50 */
#define STATUS_NO_MORE_DATA ((long)0xC00000D9l)     /* 232 */
#define STATUS_WRONG_STATE ((long)0xC0000184l)      /* 22 */
#define STATUS_ACCESS_TO_CALLER ((long)0xC0000005l) /* 998 */
#define STATUS_HOPS_EXCEEDED STATUS_OF_WIN32(1232l)   /* ERROR_HOST_UNREACHABLE, as STATUS_HOPLIMIT_EXCEEDED */
#define STATUS_DRIVER_GONE ((long)0xC00002B6l)      /* 1617 */
/* Any Win32 error as a status: RtlNtStatusToDosError undoes it. */
#define STATUS_OF_WIN32(code) ((long)(0xC0010000l | (code)))

/* A packet that the Linux peer's kernel holds until it is told what to do. */
typedef struct {
    uint32_t generation; /* of the connection it came by; 0: held by nobody */
    uint32_t id;
    uint8_t queue;
} Origin;

enum { QUEUE_OUTBOUND = 0, QUEUE_INBOUND = 1 };

/* A read request that waits; the driver owns it with its IRP. */
typedef struct Read {
    struct Read *next;
    void *irp;
    uint8_t *buffer;
    uint32_t room;
    uint64_t address_at, length_at; /* in the caller's memory; may be null */
    uint32_t addresses;             /* how many fit there */
} Read;

typedef struct Handle Handle;

/* ---- driver.c gives these to the helper when it starts ---- */
typedef struct {
    /* Takes the IRP away from cancellation; 0 where that was faster. */
    int (*claim)(void *irp);
    void (*complete)(Read *read, long status, uint32_t bytes);
} Device;

/* ---- handle.c: one handle's queue, flags and parameters ---- */
int standin_start(const Device *device);
void standin_stop(void);
long handle_open(uint32_t process, Handle **opened);
/* The caller's last handle is closed: waiting reads end, unread packets go on. */
void handle_close(Handle *handle);
void handle_free(Handle *handle);
long handle_initialize(Handle *handle, const Request *request, Version *version, uint32_t length);
long handle_startup(Handle *handle, const Request *request, const Test *tests, uint32_t length);
/* STATUS_WAITING: the helper completes it. */
long handle_read(Handle *handle, const Request *request, Read *read);
/* Whether it still waited; it does no longer. */
int handle_cancel(Handle *handle, Read *read);
long handle_send(Handle *handle, const Request *request, const uint8_t *bytes, uint32_t length, uint32_t *sent);
long handle_set_param(Handle *handle, const Request *request);
long handle_get_param(Handle *handle, const Request *request, uint64_t *value, uint32_t length);
long handle_shutdown(Handle *handle, const Request *request);

/* ---- inside the helper ---- */
#ifdef STANDIN_HELPER
#include "packet.h"
#include <winsock2.h>
#include <windows.h>

extern CRITICAL_SECTION standin_lock;

/* The performance counter, and never the same value twice. */
int64_t standin_now(void);
/* Ticks of it in a millisecond. */
int64_t standin_ticks(void);
void *standin_memory(uint32_t bytes);
void standin_return(void *memory);

/* Locked: how many SOCKET handles are open. */
uint32_t handle_socket_listeners(void);
/* Locked: every SOCKET handle whose filter matches gets the event. */
void handle_offer_event(const Address *address);
/* Locked: the next NETWORK handle below a priority that is to see this packet
 * takes it. 1: the packet is its own now. */
int handle_offer_packet(const Packet *packet, const Address *address, Origin origin, int changed, uint64_t below);
/* Locked: all handles fail from now on. */
void handle_vanish_all(void);
/* Locked: late events, limits of misbehaviour. */
void handle_tick(void);

/* ---- line.c: a packet's way past the handles ---- */
/* A packet that the peer's kernel holds. */
void line_arrived(Origin origin, const uint8_t *bytes, uint32_t length, int loopback, uint32_t interface_index);
/* Locked: what a handle injects or leaves behind goes on below it. */
long line_inject(uint32_t priority, uint8_t *bytes, uint32_t length, const Address *address);
void line_leave(uint32_t priority, uint8_t *bytes, uint32_t length, const Address *address, Origin origin, int changed);
/* Locked: a packet was read by a program; it may come back. */
void line_was_read(int64_t timestamp, Origin origin);
/* Locked: packets read and never sent are lost. */
void line_tick(void);
/* The addresses of this host changed. */
void line_host_addresses(const uint8_t *addresses, uint32_t count);

/* ---- link.c: the connection to the peer ---- */
int link_start(void);
void link_stop(void);
/* `bytes` null: unchanged. */
void link_accept(Origin origin, const uint8_t *bytes, uint32_t length);
void link_drop(Origin origin);
void link_inject(const uint8_t *bytes, uint32_t length);
void link_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
void link_flush(void);

/* ---- sockets.c: who has which socket ---- */
int sockets_start(void);
void sockets_stop(void);
/* Not locked: a SOCKET handle is about to be opened; what there is now is old. */
void sockets_begin(void);
/* Not locked: a packet about to be shown; its socket's events come first. */
void sockets_before_outbound(const Packet *packet, int loopback);
/* An inbound packet (or one over loopback) was let through: noted, nothing else. */
void sockets_after_inbound(const Packet *packet, int loopback);
/* The peer saw the host's sockets change. */
void sockets_changed(void);

/* ---- misbehave.c: what the test wants to go wrong ---- */
typedef struct {
    uint32_t events_late;      /* milliseconds */
    uint32_t events_lost;      /* every n-th; 1: all; 0: none */
    uint32_t queue_length;     /* at most; UINT32_MAX: as set */
    uint32_t truncate, scramble; /* every n-th packet shown; 0: none */
    uint32_t refuse_open;      /* Win32 error; 0: none */
    uint8_t vanished;
    uint8_t no_offload;
} Misbehaviour;
extern volatile Misbehaviour misbehaviour;
void misbehave_read(void);
/* Locked: spoils a packet about to be shown, if it is its turn; its new length. */
uint32_t misbehave_packet(uint8_t *bytes, uint32_t length);
/* Locked: whether this event is lost. */
int misbehave_loses_event(void);
#endif
