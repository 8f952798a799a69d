/*
 * What does one handle hold, and who may read it?
 *
 * Queue, flags, parameters and states as in the real driver's context: drop the
 * oldest when LENGTH or SIZE is reached, lose what is older than TIME, count
 * nothing; after shutdown hand out what is left, then ERROR_NO_DATA; on close
 * pass on what nobody read.
 */
#define STANDIN_HELPER
#include "standin.h"
#include "checksum.h"
#include "filter.h"
#include <string.h>

typedef struct Entry {
    struct Entry *next;
    Address address;
    Origin origin;
    uint32_t length, size;
    uint8_t changed; /* since the kernel gave it to us */
    uint8_t bytes[];
} Entry;

typedef struct {
    Entry *first, **end;
    uint32_t length, size;
} Queue;

enum State { OPENING, INITIALIZED, OPEN, CLOSED };

struct Handle {
    Handle *next; /* of a lower priority */
    enum State state;
    HANDLE caller;
    uint32_t process, layer, priority, callouts;
    uint64_t flags;
    uint32_t most_length, most_time, most_size;
    uint32_t refused; /* the error that opening it ends with */
    uint8_t receives_no_more, sends_no_more, vanished;
    Queue queue;
    Read *reads, **reads_end;
    Test *tests;
    uint32_t count;
};

/* A late event and when it comes. */
typedef struct Late {
    struct Late *next;
    int64_t due;
    Address address;
} Late;

CRITICAL_SECTION standin_lock;
static Device device;
static Handle *handles; /* open ones, highest priority first */
static Late *late, **late_end = &late;
static uint32_t opened_so_far;
static int64_t last_now;

int64_t standin_now(void)
{
    LARGE_INTEGER now;
    QueryPerformanceCounter(&now);
    int64_t before, after;
    do {
        before = InterlockedCompareExchange64(&last_now, 0, 0);
        after = now.QuadPart > before ? now.QuadPart : before + 1;
    } while (InterlockedCompareExchange64(&last_now, after, before) != before);
    return after;
}

int64_t standin_ticks(void)
{
    LARGE_INTEGER frequency;
    QueryPerformanceFrequency(&frequency);
    return frequency.QuadPart / 1000;
}

void *standin_memory(uint32_t bytes) { return HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, bytes); }

void standin_return(void *memory)
{
    if (memory)
        HeapFree(GetProcessHeap(), 0, memory);
}

int standin_start(const Device *given)
{
    device = *given;
    InitializeCriticalSection(&standin_lock);
    return link_start() && sockets_start();
}

void standin_stop(void)
{
    sockets_stop();
    link_stop();
}

/* ---- the queue ---- */

static void push(Queue *queue, Entry *entry)
{
    if (!queue->first)
        queue->end = &queue->first;
    entry->next = NULL;
    *queue->end = entry;
    queue->end = &entry->next;
    queue->length++;
    queue->size += entry->size;
}

static Entry *pop(Queue *queue)
{
    Entry *entry = queue->first;
    if (entry) {
        queue->first = entry->next;
        queue->length--;
        queue->size -= entry->size;
    }
    return entry;
}

static void lose(Entry *entry)
{
    link_drop(entry->origin);
    standin_return(entry);
}

static int too_old(const Handle *handle, const Entry *entry)
{
    return standin_now() - entry->address.timestamp > handle->most_time * standin_ticks();
}

/* What one queued packet counts for SIZE: the real driver's header with it. */
static uint32_t size_of(uint32_t layer, uint32_t length) { return 55u + (layer == LAYER_SOCKET ? 64u : 8u) + length; }

static uint32_t length_limit(const Handle *handle)
{
    return misbehaviour.queue_length < handle->most_length ? misbehaviour.queue_length : handle->most_length;
}

static void serve(Handle *handle);

static void enqueue(Handle *handle, Entry *entry)
{
    uint32_t most = length_limit(handle);
    if (entry->size > handle->most_size || most == 0) {
        lose(entry);
        return;
    }
    while (handle->queue.length + 1 > most || handle->queue.size + entry->size > handle->most_size)
        lose(pop(&handle->queue));
    push(&handle->queue, entry);
    serve(handle);
}

/* ---- reads ---- */

static Read *next_read(Handle *handle)
{
    while (handle->reads) {
        Read *read = handle->reads;
        handle->reads = read->next;
        if (!handle->reads)
            handle->reads_end = &handle->reads;
        if (device.claim(read->irp))
            return read;
        /* Being cancelled: that side ends it. */
    }
    return NULL;
}

static int to_caller(Handle *handle, uint64_t at, const void *bytes, uint32_t length)
{
    SIZE_T written;
    return !at || WriteProcessMemory(handle->caller, (void *)(uintptr_t)at, bytes, length, &written);
}

static int from_caller(Handle *handle, uint64_t at, void *bytes, uint32_t length)
{
    SIZE_T got;
    return ReadProcessMemory(handle->caller, (void *)(uintptr_t)at, bytes, length, &got);
}

/* Hands packets to a read until its addresses, its room or the queue ends. */
static void answer(Handle *handle, Read *read)
{
    static Address addresses[BATCH_MAX];
    uint32_t count = 0, bytes = 0;
    long status = STATUS_OK;
    while (count < read->addresses && handle->queue.first) {
        Entry *entry = handle->queue.first;
        uint32_t left = read->room - bytes, length = entry->length;
        if (count > 0 && (length > left || too_old(handle, entry)))
            break;
        pop(&handle->queue);
        if (length > left) {
            length = left;
            status = STATUS_TOO_SMALL; /* the rest of it is lost */
        }
        if (length)
            memcpy(read->buffer + bytes, entry->bytes, length);
        bytes += length;
        addresses[count++] = entry->address;
        if (entry->origin.generation)
            line_was_read(entry->address.timestamp, entry->origin);
        standin_return(entry);
    }
    uint32_t length = count * (uint32_t)sizeof(Address);
    if (!to_caller(handle, read->address_at, addresses, length) ||
        !to_caller(handle, read->length_at, &length, sizeof length))
        status = STATUS_ACCESS_TO_CALLER;
    device.complete(read, status, bytes);
}

/* Brings reads and packets together. */
static void serve(Handle *handle)
{
    Read *read;
    for (;;) {
        while (handle->queue.first && too_old(handle, handle->queue.first))
            lose(pop(&handle->queue));
        if (!handle->queue.first || !(read = next_read(handle)))
            break;
        answer(handle, read);
    }
    if (handle->receives_no_more && !handle->queue.first)
        while ((read = next_read(handle)))
            device.complete(read, STATUS_NO_MORE_DATA, 0);
}

static void end_reads(Handle *handle, long status)
{
    Read *read;
    while ((read = next_read(handle)))
        device.complete(read, status, 0);
}

long handle_read(Handle *handle, const Request *request, Read *read)
{
    uint32_t length = sizeof(Address);
    long status = STATUS_WAITING;
    read->next = NULL;
    read->address_at = request->recv.address;
    read->length_at = request->recv.length_at;
    if (read->length_at) {
        if (!from_caller(handle, read->length_at, &length, sizeof length))
            return STATUS_ACCESS_TO_CALLER;
        if (length < sizeof(Address) || length > BATCH_MAX * sizeof(Address) || !read->address_at)
            return STATUS_BAD_PARAMETER;
    }
    read->addresses = length / (uint32_t)sizeof(Address);
    EnterCriticalSection(&standin_lock);
    if (handle->vanished)
        status = STATUS_DRIVER_GONE;
    else if (handle->state != OPEN)
        status = STATUS_WRONG_STATE;
    else if (handle->flags & FLAG_SEND_ONLY)
        status = STATUS_BAD_PARAMETER;
    if (status == STATUS_WAITING) {
        if (!handle->reads)
            handle->reads_end = &handle->reads;
        *handle->reads_end = read;
        handle->reads_end = &read->next;
        serve(handle);
    }
    LeaveCriticalSection(&standin_lock);
    link_flush();
    return status;
}

int handle_cancel(Handle *handle, Read *read)
{
    int waited = 0;
    EnterCriticalSection(&standin_lock);
    for (Read **at = &handle->reads; *at; at = &(*at)->next)
        if (*at == read) {
            *at = read->next;
            waited = 1;
            break;
        }
    handle->reads_end = &handle->reads;
    while (*handle->reads_end)
        handle->reads_end = &(*handle->reads_end)->next;
    LeaveCriticalSection(&standin_lock);
    return waited;
}

/* ---- what handles are offered ---- */

uint32_t handle_socket_listeners(void)
{
    uint32_t count = 0;
    for (Handle *handle = handles; handle; handle = handle->next)
        count += handle->layer == LAYER_SOCKET;
    return count;
}

static Entry *entry_of(const Handle *handle, const Address *address, const Packet *packet)
{
    uint32_t length = packet ? packet->length : 0;
    Entry *entry = standin_memory((uint32_t)sizeof *entry + length);
    if (!entry)
        return NULL;
    entry->address = *address;
    entry->address.sniffed = (handle->flags & FLAG_SNIFF) != 0 || address->event == EVENT_CLOSE;
    entry->length = length;
    entry->size = size_of(handle->layer, length);
    if (packet)
        memcpy(entry->bytes, packet->bytes, length);
    return entry;
}

/* Late ones wait for their time; the real driver's work item is never this late. */
static void deliver_event(const Address *address)
{
    static const uint32_t callouts[] = {[EVENT_BIND] = CALLOUT_BIND, [EVENT_CONNECT] = CALLOUT_CONNECT,
                                        [EVENT_LISTEN] = CALLOUT_LISTEN, [EVENT_ACCEPT] = CALLOUT_ACCEPT,
                                        [EVENT_CLOSE] = CALLOUT_CLOSE};
    uint32_t needed = callouts[address->event] | (address->ipv6 ? CALLOUT_IPV6 : CALLOUT_IPV4);
    for (Handle *handle = handles; handle; handle = handle->next) {
        if (handle->layer != LAYER_SOCKET || handle->receives_no_more || (handle->callouts & needed) != needed ||
            !filter_match(handle->tests, handle->count, address, NULL))
            continue;
        Entry *entry = entry_of(handle, address, NULL);
        if (entry)
            enqueue(handle, entry);
    }
}

void handle_offer_event(const Address *address)
{
    if (misbehave_loses_event())
        return;
    if (!misbehaviour.events_late && !late) {
        deliver_event(address);
        return;
    }
    Late *waiting = standin_memory(sizeof *waiting);
    if (!waiting)
        return;
    waiting->address = *address;
    waiting->due = standin_now() + misbehaviour.events_late * standin_ticks();
    *late_end = waiting;
    late_end = &waiting->next;
}

void handle_tick(void)
{
    while (late && late->due <= standin_now()) {
        Late *due = late;
        late = due->next;
        if (!late)
            late_end = &late;
        deliver_event(&due->address);
        standin_return(due);
    }
}

/* The packet as this handle is shown it. */
static Entry *show(Handle *handle, const Packet *packet, const Address *address)
{
    Entry *entry = entry_of(handle, address, packet);
    if (!entry)
        return NULL;
    entry->address.timestamp = standin_now();
    if (!address->ip_checksum) { /* straight from the stack or the NIC */
        if (misbehaviour.no_offload)
            entry->address.ip_checksum = entry->address.tcp_checksum = entry->address.udp_checksum = 1;
        else if (address->outbound)
            checksum_leave_to_nic(entry->bytes, entry->length);
    }
    entry->length = misbehave_packet(entry->bytes, entry->length);
    return entry;
}

int handle_offer_packet(const Packet *packet, const Address *address, Origin origin, int changed, uint64_t below)
{
    uint32_t needed = (address->outbound ? CALLOUT_OUTBOUND : CALLOUT_INBOUND) |
                      (address->ipv6 ? CALLOUT_IPV6 : CALLOUT_IPV4);
    for (Handle *handle = handles; handle; handle = handle->next) {
        if (handle->layer != LAYER_NETWORK || handle->priority >= below || handle->receives_no_more || handle->vanished ||
            (handle->callouts & needed) != needed)
            continue;
        /* FRAGMENTS asks for inbound fragments; this rig has none, the kernel reassembles. */
        if (!address->outbound && packet->fragment && !(handle->flags & FLAG_FRAGMENTS))
            continue;
        if (!filter_match(handle->tests, handle->count, address, packet))
            continue;
        if (handle->flags & FLAG_DROP) {
            link_drop(origin);
            return 1;
        }
        Entry *entry = packet->length > PACKET_MAX ? NULL : show(handle, packet, address);
        if (handle->flags & FLAG_SNIFF) {
            if (entry)
                enqueue(handle, entry);
            continue;
        }
        if (!entry) {
            link_drop(origin); /* absorbed, and too large or no memory: lost as in the real one */
            return 1;
        }
        entry->origin = origin;
        entry->changed = changed != 0;
        enqueue(handle, entry);
        return 1;
    }
    return 0;
}

/* ---- opening and closing ---- */

long handle_open(uint32_t process, Handle **opened)
{
    Handle *handle = standin_memory(sizeof *handle);
    if (!handle)
        return STATUS_NO_MEMORY_LEFT;
    /* Wine opens a device's file whatever the driver says: told when it is used. */
    handle->refused = misbehaviour.vanished ? ERROR_SERVICE_DISABLED : misbehaviour.refuse_open;
    handle->process = process;
    handle->caller =
        OpenProcess(PROCESS_VM_READ | PROCESS_VM_WRITE | PROCESS_VM_OPERATION, FALSE, process);
    if (!handle->caller) {
        link_log("no access to process %lu: %lu", (unsigned long)process, (unsigned long)GetLastError());
        standin_return(handle);
        return STATUS_ACCESS_TO_CALLER;
    }
    handle->most_length = 4096;
    handle->most_time = 2000;
    handle->most_size = 4194304;
    *opened = handle;
    return STATUS_OK;
}

long handle_initialize(Handle *handle, const Request *request, Version *version, uint32_t length)
{
    uint64_t flags = request->initialize.flags;
    uint32_t layer = request->initialize.layer;
    if (handle->refused)
        return STATUS_OF_WIN32(handle->refused);
    if (length != sizeof *version || version->magic != ABI_MAGIC_DLL || version->major < ABI_MAJOR ||
        (version->bits != 32 && version->bits != 64) || layer > LAYER_REFLECT ||
        request->initialize.priority > 2 * PRIORITY_HIGHEST || (flags & ~(uint64_t)FLAGS_ALL) ||
        (flags & (FLAG_SNIFF | FLAG_DROP)) == (FLAG_SNIFF | FLAG_DROP) ||
        (flags & (FLAG_RECV_ONLY | FLAG_SEND_ONLY)) == (FLAG_RECV_ONLY | FLAG_SEND_ONLY))
        return STATUS_BAD_PARAMETER;
    if (layer == LAYER_SOCKET && !(flags & FLAG_RECV_ONLY))
        return STATUS_BAD_PARAMETER;
    /* Not here: other layers, and sockets that are blocked instead of watched. */
    if ((layer != LAYER_NETWORK && layer != LAYER_SOCKET) || (layer == LAYER_SOCKET && !(flags & FLAG_SNIFF)))
        return STATUS_NOT_SUPPORTED_HERE;
    version->magic = ABI_MAGIC_SYS;
    version->major = ABI_MAJOR;
    version->minor = ABI_MINOR;
    version->bits = 64;
    EnterCriticalSection(&standin_lock);
    long status = handle->state == OPENING ? STATUS_OK : STATUS_WRONG_STATE;
    if (status == STATUS_OK) {
        handle->layer = layer;
        handle->flags = flags;
        handle->priority = request->initialize.priority << 16 | (++opened_so_far & 0xFFFFu);
        handle->state = INITIALIZED;
    }
    LeaveCriticalSection(&standin_lock);
    return status;
}

long handle_startup(Handle *handle, const Request *request, const Test *tests, uint32_t length)
{
    uint32_t count = length / (uint32_t)sizeof *tests;
    if (length % sizeof *tests || (request->startup.callouts & ~(uint64_t)CALLOUTS_ALL & ~0x100ull))
        return STATUS_BAD_PARAMETER;
    if (handle->state != INITIALIZED)
        return STATUS_WRONG_STATE;
    if (!filter_valid(tests, count, handle->layer))
        return STATUS_BAD_PARAMETER;
    Test *copy = standin_memory(length);
    if (!copy)
        return STATUS_NO_MEMORY_LEFT;
    memcpy(copy, tests, length);
    if (handle->layer == LAYER_SOCKET)
        sockets_begin();
    EnterCriticalSection(&standin_lock);
    handle->tests = copy;
    handle->count = count;
    handle->callouts = (uint32_t)request->startup.callouts;
    handle->state = OPEN;
    Handle **at = &handles;
    while (*at && (*at)->priority > handle->priority)
        at = &(*at)->next;
    handle->next = *at;
    *at = handle;
    LeaveCriticalSection(&standin_lock);
    return STATUS_OK;
}

/* Takes it out of the line; what it holds goes on below it. */
static void leave(Handle *handle)
{
    Entry *entry;
    for (Handle **at = &handles; *at; at = &(*at)->next)
        if (*at == handle) {
            *at = handle->next;
            break;
        }
    while ((entry = pop(&handle->queue))) {
        if (handle->layer == LAYER_NETWORK && !(handle->flags & FLAG_SNIFF) && !too_old(handle, entry))
            line_leave(handle->priority, entry->bytes, entry->length, &entry->address, entry->origin, entry->changed);
        else
            link_drop(entry->origin);
        standin_return(entry);
    }
}

void handle_close(Handle *handle)
{
    EnterCriticalSection(&standin_lock);
    if (handle->state != CLOSED) {
        handle->state = CLOSED;
        leave(handle);
        end_reads(handle, STATUS_OF_WIN32(ERROR_OPERATION_ABORTED));
    }
    LeaveCriticalSection(&standin_lock);
    link_flush();
}

void handle_free(Handle *handle)
{
    handle_close(handle);
    CloseHandle(handle->caller);
    standin_return(handle->tests);
    standin_return(handle);
}

void handle_vanish_all(void)
{
    /* All of them at once: what one held is not another's any more. */
    for (Handle *handle = handles; handle; handle = handle->next)
        handle->vanished = 1;
    while (handles) {
        Handle *handle = handles;
        leave(handle);
        end_reads(handle, STATUS_DRIVER_GONE);
    }
}

/* ---- the other requests ---- */

/* Why a request to an open handle is refused. */
static long state_of(const Handle *handle)
{
    return handle->vanished ? STATUS_DRIVER_GONE : handle->state == OPEN ? STATUS_OK : STATUS_WRONG_STATE;
}

long handle_send(Handle *handle, const Request *request, const uint8_t *bytes, uint32_t length, uint32_t *sent)
{
    static Address addresses[BATCH_MAX];
    static uint8_t copy[PACKET_MAX];
    uint64_t room = request->send.length;
    long status, soft = STATUS_OK;
    *sent = 0;
    if (room < sizeof(Address) || room > sizeof addresses || !request->send.address)
        return STATUS_BAD_PARAMETER;
    EnterCriticalSection(&standin_lock);
    status = state_of(handle);
    if (status == STATUS_OK && handle->sends_no_more)
        status = STATUS_NO_MORE_DATA;
    if (status == STATUS_OK && (handle->layer != LAYER_NETWORK || handle->flags & FLAG_RECV_ONLY))
        status = STATUS_BAD_PARAMETER;
    if (status == STATUS_OK && !from_caller(handle, request->send.address, addresses, (uint32_t)room))
        status = STATUS_ACCESS_TO_CALLER;
    for (uint32_t i = 0; status == STATUS_OK && i < room / sizeof(Address); i++) {
        uint32_t left = length - *sent, claimed = packet_claimed_length(bytes + *sent, left);
        if (left < 20 || (claimed && claimed > left)) {
            status = STATUS_TOO_SMALL;
        } else if (claimed < 20) {
            status = STATUS_BAD_PARAMETER;
        } else {
            memcpy(copy, bytes + *sent, claimed);
            long refused = line_inject(handle->priority, copy, claimed, &addresses[i]);
            if (refused != STATUS_OK)
                soft = refused; /* the rest of the batch goes on */
            *sent += claimed;
        }
    }
    LeaveCriticalSection(&standin_lock);
    link_flush();
    return status == STATUS_OK ? soft : status;
}

static int within(uint64_t value, uint64_t lowest, uint64_t largest) { return value >= lowest && value <= largest; }

long handle_set_param(Handle *handle, const Request *request)
{
    uint64_t value = request->set_param.value;
    EnterCriticalSection(&standin_lock);
    long status = state_of(handle);
    if (status == STATUS_OK) {
        if (request->set_param.param == PARAM_LENGTH && within(value, 32, 16384))
            handle->most_length = (uint32_t)value;
        else if (request->set_param.param == PARAM_TIME && within(value, 100, 16000))
            handle->most_time = (uint32_t)value;
        else if (request->set_param.param == PARAM_SIZE && within(value, 65535, 33554432))
            handle->most_size = (uint32_t)value;
        else
            status = STATUS_BAD_PARAMETER;
    }
    LeaveCriticalSection(&standin_lock);
    return status;
}

long handle_get_param(Handle *handle, const Request *request, uint64_t *value, uint32_t length)
{
    if (length != sizeof *value)
        return STATUS_BAD_PARAMETER;
    EnterCriticalSection(&standin_lock);
    long status = state_of(handle);
    if (status == STATUS_OK)
        switch (request->get_param.param) {
        case PARAM_LENGTH: *value = handle->most_length; break;
        case PARAM_TIME: *value = handle->most_time; break;
        case PARAM_SIZE: *value = handle->most_size; break;
        case PARAM_MAJOR: *value = ABI_MAJOR; break;
        case PARAM_MINOR: *value = ABI_MINOR; break;
        default: status = STATUS_BAD_PARAMETER;
        }
    LeaveCriticalSection(&standin_lock);
    return status;
}

long handle_shutdown(Handle *handle, const Request *request)
{
    uint32_t how = request->shutdown.how;
    if (how < SHUTDOWN_RECV || how > (SHUTDOWN_RECV | SHUTDOWN_SEND))
        return STATUS_BAD_PARAMETER;
    EnterCriticalSection(&standin_lock);
    long status = state_of(handle);
    if (status == STATUS_OK) {
        handle->receives_no_more |= (how & SHUTDOWN_RECV) != 0;
        handle->sends_no_more |= (how & SHUTDOWN_SEND) != 0;
        serve(handle);
    }
    LeaveCriticalSection(&standin_lock);
    link_flush();
    return status;
}
