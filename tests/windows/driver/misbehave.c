/*
 * What does the test want to go wrong?
 *
 * C:\standin\misbehave.txt, read again every 50 ms; one line per fault:
 *
 *   events late MS          socket events come MS milliseconds later
 *   events lost N|all       every N-th socket event is lost
 *   queue full              every packet finds its queue full
 *   queue length N          queues hold N packets at most
 *   malformed truncate N    every N-th packet shown is cut to half
 *   malformed scramble N    every N-th packet shown has bytes changed
 *   refuse-open CODE        opening a handle fails with that Win32 error
 *   vanish                  open handles fail, opening fails with 1058
 *   offload off             packets carry whole checksums and say so
 *
 * No file, no faults. A line that is none of these is logged by the peer.
 */
#define STANDIN_HELPER
#include "standin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char path[] = "C:\\standin\\misbehave.txt";
static const Misbehaviour none = {.queue_length = UINT32_MAX};
volatile Misbehaviour misbehaviour = {.queue_length = UINT32_MAX};
static char last[2048];
static uint32_t shown, events;

static int every(const char *word)
{
    return strcmp(word, "all") ? atoi(word) : 1;
}

static void parse_line(Misbehaviour *wanted, const char *line)
{
    char first[32] = "", second[32] = "", third[32] = "";
    int words = sscanf(line, "%31s %31s %31s", first, second, third);
    if (words <= 0 || first[0] == '#')
        return;
    if (words == 3 && !strcmp(first, "events") && !strcmp(second, "late"))
        wanted->events_late = (uint32_t)atoi(third);
    else if (words == 3 && !strcmp(first, "events") && !strcmp(second, "lost"))
        wanted->events_lost = (uint32_t)every(third);
    else if (words == 2 && !strcmp(first, "queue") && !strcmp(second, "full"))
        wanted->queue_length = 0;
    else if (words == 3 && !strcmp(first, "queue") && !strcmp(second, "length"))
        wanted->queue_length = (uint32_t)atoi(third);
    else if (words == 3 && !strcmp(first, "malformed") && !strcmp(second, "truncate"))
        wanted->truncate = (uint32_t)every(third);
    else if (words == 3 && !strcmp(first, "malformed") && !strcmp(second, "scramble"))
        wanted->scramble = (uint32_t)every(third);
    else if (words == 2 && !strcmp(first, "refuse-open"))
        wanted->refuse_open = (uint32_t)atoi(second);
    else if (words == 1 && !strcmp(first, "vanish"))
        wanted->vanished = 1;
    else if (words == 2 && !strcmp(first, "offload") && !strcmp(second, "off"))
        wanted->no_offload = 1;
    else
        link_log("misbehave.txt: not understood: %s", line);
}

/* The file's text, empty without a file; 0 where it is just being written. */
static int read_text(char *text, uint32_t room)
{
    HANDLE file = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, 0, NULL);
    DWORD got = 0;
    text[0] = 0;
    if (file == INVALID_HANDLE_VALUE)
        return 1;
    int read = ReadFile(file, text, room - 1, &got, NULL);
    CloseHandle(file);
    text[got] = 0;
    return read;
}

void misbehave_read(void)
{
    char text[sizeof last], *line, *rest = text;
    if (!read_text(text, sizeof text) || !strcmp(text, last))
        return;
    memcpy(last, text, sizeof last);
    Misbehaviour wanted = none;
    while ((line = rest) && *line) {
        rest = strchr(line, '\n');
        if (rest)
            *rest++ = 0;
        parse_line(&wanted, line);
    }
    EnterCriticalSection(&standin_lock);
    int vanishes = wanted.vanished && !misbehaviour.vanished;
    misbehaviour = wanted;
    shown = events = 0;
    if (vanishes)
        handle_vanish_all();
    LeaveCriticalSection(&standin_lock);
    link_flush();
}

uint32_t misbehave_packet(uint8_t *bytes, uint32_t length)
{
    shown++;
    if (misbehaviour.scramble && shown % misbehaviour.scramble == 0) {
        uint32_t random = shown * 2654435761u;
        for (int i = 0; i < 4; i++, random = random * 1664525u + 1013904223u)
            bytes[(random >> 8) % length] ^= (uint8_t)(random >> 24 | 1);
    }
    if (misbehaviour.truncate && shown % misbehaviour.truncate == 0)
        length -= length / 2;
    return length;
}

int misbehave_loses_event(void)
{
    return misbehaviour.events_lost && ++events % misbehaviour.events_lost == 0;
}
