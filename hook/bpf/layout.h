/* What the kernel side and the daemon share: src/layout.rs mirrors this file.
 *
 * The pin directory is named after a digest of this file, so maps outlive a
 * daemon only as long as both sides agree on them.
 */
#pragma once

#include "kernel.h"

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d; network order. */
struct address {
	__be32 word[4];
};

/* A session that is logged on. Zero: it has no such address. */
struct session {
	__u32 id;
	__be32 ipv4;
	struct address ipv6;
	struct address private6; /* never routed: gives V6ONLY listeners a place */
	__be32 loopback;
};

/* An executable file as the kernel tells files apart. */
struct file_id {
	__u64 inode;
	__u32 device;
	__u32 zero;
};

/* The last component of an executable's path, padded with zeroes. */
struct file_name {
	char bytes[64];
};

enum {
	LISTED = 1,
	EXCEPTED = 2,
	LOOPBACK_LISTED = 4, /* [loopback] programs has it */
	PREFERRED = 8,       /* [loopback] prefer has it */
	PATH_ENDS = 16, /* by name: a listed path ends in it, see PROGRAMS_BY_PATH */
};

/* What the lists say of a program; `id` is how EXCLUDED knows it. */
struct program {
	__u32 id;
	__u32 flags;
};

/* A bind that is left alone. `program` 0: whatever the program. LEFT_PORTS: a
 * local port of [divert] exclude-ports, from which nothing is chosen a source. */
enum { LEFT_PORTS = 0xffffffff };
struct exclusion {
	__u32 program;
	__u16 port;
	__u16 protocol;
};

enum {
	ENABLED = 1,     /* binds are moved, targets are redirected */
	ALL_LISTED = 2,  /* the program list has "*" */
	ALL_EXCEPTED = 4,/* so has the list of exceptions */
	BY_FILE = 8,     /* PROGRAMS_BY_FILE has entries */
	BY_NAME = 16,    /* PROGRAMS_BY_NAME has entries */
	CHILDREN = 32,   /* descendants of a listed program count as listed */
	SOURCES = 64,    /* [isolation] sources */
	LISTENERS = 128, /* [isolation] listeners */
	LOOPBACK = 256,  /* binds to 127.0.0.1 are moved */
	ALL_LOOPBACK = 512,      /* the loopback's program list has "*" */
	ALL_PREFERRED = 1024,    /* so has the list of programs that prefer it */
	ISOLATE_LOOPBACK = 2048, /* [isolation] loopback */
	CONNECT = 4096,  /* [hook] scope = "connect": sources are chosen, too */
	FOLLOW_SCRIPTS = 16384, /* a list may name scripts */
	BY_PATH = 32768, /* PROGRAMS_BY_PATH has entries */
};

struct config {
	__u64 netns; /* cookie of the daemon's network namespace */
	__u32 flags;
	__u32 epoch; /* by which lists SCRIPTS and DESCENDANTS are */
};

enum { POOL_NIC = 1 };

/* A value of ROUTES: what is sent there leaves by the pool's NIC. */
enum { OVER_POOL_NIC = 1 };

/* What the lists say of the script that an interpreter runs. */
struct script {
	__u32 flags;
	__u32 by_file;
	__u32 by_name;
};

/* What an option means to an interpreter: Meaning of src/script/rules.rs. */
enum { MEANS_VALUE = 1, MEANS_NO_FILE, MEANS_REST, MEANS_FILE, MEANS_JAR };

enum { CLUSTERS = 1, PLUS = 2, ONLY_JAR = 4 };

/* How an interpreter reads its arguments: Rule of src/script/rules.rs. */
struct interpreter {
	__u32 kind;
	__u32 flags;
	__u8 letter[256];
};
struct interpreter_name {
	char bytes[16];
};
struct option_word {
	__u32 kind;
	char word[28];
};

/* Room to read a path or an argument in. */
#define TEXT_SIZE 4096
struct text {
	char bytes[TEXT_SIZE];
};

/* Where the reading of a path in a text stands, from its end to its beginning.
 * In a map, for the kernel's verifier follows every value that lies elsewhere. */
struct walk {
	__u64 digest;
	__u32 at;  /* of the last letter that was not read */
	__u32 end; /* of the name that is read, after its last letter */
	__u32 up;  /* names that `..` takes away again */
	__u32 failed;
};

/* The low byte is of the process; the next one has a script's flags, as far as
 * the lists use them; the rest is the low half of the epoch. */
enum { DESCENDS = 1, SCRIPT_FLAGS = 8, EPOCH = 16 };

struct owner {
	__u32 pid;
	__u32 uid;
	__u64 cgroup;
	__u32 session; /* 0: none was known when the socket was made */
	__u32 flags;
	struct file_id file;
};

/* Why a socket is not bound where its program asked. */
struct moved {
	struct address asked;
	struct address given;
	__u32 session;
	__u16 port;
	__u16 protocol;
};

/* A UDP socket that is gone, while packets of it may still be on their way. */
struct closed {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	__u64 cookie;
	struct owner owner;
	struct address local;
	struct address remote;
	__u16 local_port;
	__u16 remote_port;
	__u16 protocol;
	__u16 family;
};

/* Whose ping a packet is. `header` is the message's: type, code, checksum, id,
 * sequence number. */
struct ping {
	struct owner owner;
	struct address source;
	struct address destination;
	__u8 header[8];
};

/* On a socket bound to an address of its own session. `moved`: by the hook,
 * and whether it had asked for any address. GIVEN_HERE: no address of its own,
 * but 127.0.0.1 or ::1, at a port of the kernel's choice or where one of its
 * session has such a port. */
enum { MOVED_HERE = 1, ASKED_ANY = 2, GIVEN_HERE = 4 };
/* In TO_MARK only: it goes before a mark that says that nobody moved it. */
enum { REPLACES = 8 };
enum { VIRTUAL_ADDRESS, SESSION_LOOPBACK, OTHER_PLACES };
struct bound {
	__u32 session;
	__u32 moved;
	/* A dual-stack socket's that was moved to an IPv4 address: its session's
	 * IPv6 addresses, where it is to be found as well. */
	struct address also[OTHER_PLACES];
	__u16 port;
	__u16 protocol;
};

/* A key of DUAL. */
struct place {
	struct address address;
	__u16 port;
	__u16 protocol;
};

/* On a socket that was led to its own session's server: by `given` and `port`
 * answers are recognised, and shown as from `asked`. */
enum { REDIRECTS = 8 };
struct redirect {
	struct address asked;
	struct address given;
	__be16 port;
	__u16 used;
};
struct redirects {
	struct redirect last[REDIRECTS];
	__u32 next;
};

/* On a connected socket that has a host address, and which the packet engine
 * lets leave from this one. */
struct told {
	struct address source;
};

/* Keys of the pool and of routes are prefixes. */
struct prefix {
	__u32 length;
	struct address address;
};

enum {
	MOVED_BINDS,
	REFUSED_BINDS,
	REDIRECTED,
	FOREIGN_SOURCE,
	FOREIGN_LISTENER,
	FOREIGN_LOOPBACK,
	LOST_EVENTS,
	/* There was no room for one more in the table of that name. */
	FULL_DESCENDANTS,
	FULL_SCRIPTS,
	FULL_DUAL,
	COUNTERS_LENGTH,
};

#define MAP(name, kind, key_type, value_type, entries, map_flags_) \
	struct { \
		__uint(type, kind); \
		__type(key, key_type); \
		__type(value, value_type); \
		__uint(max_entries, entries); \
		__uint(map_flags, map_flags_); \
		__uint(pinning, PIN_BY_NAME); \
	} name SEC(".maps")

MAP(CONFIG, BPF_MAP_TYPE_ARRAY, __u32, struct config, 1, 0);
MAP(SESSIONS, BPF_MAP_TYPE_HASH, __u64, struct session, 8192, 0);
MAP(HOLDERS, BPF_MAP_TYPE_HASH, struct address, __u32, 32768, 0);
MAP(HOST, BPF_MAP_TYPE_HASH, struct address, __u32, 4096, 0);
MAP(POOL, BPF_MAP_TYPE_LPM_TRIE, struct prefix, __u32, 4096, BPF_F_NO_PREALLOC);
MAP(ROUTES, BPF_MAP_TYPE_LPM_TRIE, struct prefix, __u32, 16384, BPF_F_NO_PREALLOC);
MAP(PROGRAMS_BY_FILE, BPF_MAP_TYPE_HASH, struct file_id, struct program, 4096, 0);
MAP(PROGRAMS_BY_NAME, BPF_MAP_TYPE_HASH, struct file_name, struct program, 4096, 0);
MAP(PROGRAMS_BY_PATH, BPF_MAP_TYPE_HASH, __u64, struct program, 4096, 0);
MAP(EXCLUDED, BPF_MAP_TYPE_HASH, struct exclusion, __u32, 4096, 0);
MAP(DESCENDANTS, BPF_MAP_TYPE_HASH, __u32, __u32, 65536, 0);
MAP(SCRIPTS, BPF_MAP_TYPE_HASH, __u32, struct script, 65536, 0);
MAP(INTERPRETERS, BPF_MAP_TYPE_HASH, struct interpreter_name, struct interpreter, 64, 0);
MAP(OPTIONS, BPF_MAP_TYPE_HASH, struct option_word, __u32, 256, 0);
MAP(TEXTS, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct text, 1, 0);
MAP(WALKS, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct walk, 1, 0);
MAP(OWNERS, BPF_MAP_TYPE_LRU_HASH, __u64, struct owner, 131072, 0);
MAP(NAMES_OF, BPF_MAP_TYPE_LRU_HASH, struct file_id, struct file_name, 8192, 0);
MAP(MOVED, BPF_MAP_TYPE_HASH, __u64, struct moved, 65536, BPF_F_NO_PREALLOC);
MAP(COUNTERS, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, COUNTERS_LENGTH, 0);
MAP(BOUND, BPF_MAP_TYPE_SK_STORAGE, int, struct bound, 0, BPF_F_NO_PREALLOC);
MAP(REDIRECTED_TO, BPF_MAP_TYPE_SK_STORAGE, int, struct redirects, 0, BPF_F_NO_PREALLOC);
MAP(TOLD, BPF_MAP_TYPE_SK_STORAGE, int, struct told, 0, BPF_F_NO_PREALLOC);

MAP(DUAL, BPF_MAP_TYPE_SOCKHASH, struct place, __u32, 16384, 0);

/* By cookie, the marks of sockets that were bound before the hook was there. */
MAP(TO_MARK, BPF_MAP_TYPE_HASH, __u64, struct bound, 16384, BPF_F_NO_PREALLOC);

/* Cookies of UDP sockets that belong into DUAL. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__uint(pinning, PIN_BY_NAME);
} NEW_DUAL SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__uint(pinning, PIN_BY_NAME);
} CLOSED SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
	__uint(pinning, PIN_BY_NAME);
} PINGS SEC(".maps");
