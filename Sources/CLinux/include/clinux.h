// What Glibc's Swift module does not show: epoll, eventfd, accept4, peer credentials, prefetch.
// Swift imports this header, so it must not define _GNU_SOURCE (it clashes with Glibc's fd_set there);
// whatever needs it lives in clinux.c.
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// One readiness report of epoll: `token` is what was registered with the descriptor.
typedef struct {
  uint32_t events;
  uint64_t token;
} clinux_event;

enum {
  CLINUX_READABLE = 0x001,  // EPOLLIN
  CLINUX_WRITABLE = 0x004,  // EPOLLOUT
  CLINUX_ERROR = 0x008,     // EPOLLERR
  CLINUX_HANGUP = 0x010,    // EPOLLHUP
  CLINUX_PEER_SHUT = 0x2000 // EPOLLRDHUP
};

// All return -1 and set errno on failure, like the calls they stand for.
int clinux_epoll_create(void);
int clinux_epoll_add(int epoll, int fd, uint32_t events, uint64_t token);
int clinux_epoll_modify(int epoll, int fd, uint32_t events, uint64_t token);
int clinux_epoll_remove(int epoll, int fd);
// Waits at most `timeout_ms` (-1: for ever); fills `out` with up to `capacity` (<= 512) events.
int clinux_epoll_wait(int epoll, clinux_event *out, int capacity, int timeout_ms);

// poll(2) of so many `struct pollfd`, with a time-out that is not rounded up to milliseconds.
int clinux_poll(void *descriptors, size_t count, uint64_t nanoseconds);

// A counter that wakes a poll: non-blocking, close-on-exec. notify adds one, drain takes all.
int clinux_eventfd(void);
void clinux_eventfd_notify(int fd);
void clinux_eventfd_drain(int fd);

// Accepts one connection, non-blocking and close-on-exec.
int clinux_accept(int fd);

// What is written to a TCP socket leaves at once (TCP_NODELAY).
void clinux_no_delay(int fd);

// The process at the other end of a Unix socket (SO_PEERCRED).
int clinux_peer(int fd, int32_t *pid, uint32_t *uid, uint32_t *gid);

// How many processors this process may use (sched_getaffinity(2)); at least 1.
int clinux_processors(void);

// Nanoseconds since boot, time in suspend included (CLOCK_BOOTTIME).
uint64_t clinux_boot_nanoseconds(void);

// Nanoseconds since 1970-01-01 00:00 UTC (CLOCK_REALTIME), which may be set back at any time.
int64_t clinux_wall_nanoseconds(void);

// Names the calling thread, for top -H and debuggers; at most 15 bytes are kept (prctl(2), PR_SET_NAME).
void clinux_name_thread(const char *name);

// Adds two decimal numbers as long doubles, which Swift has on x86 only, and writes the sum the way Redis writes it
// for INCRBYFLOAT: 17 digits behind the point, less the zeros at the end. `out` needs CLINUX_DECIMAL bytes. Returns
// the length; -1: one of them is no number, -2: the sum is not finite.
enum { CLINUX_DECIMAL = 5 * 1024 };
int clinux_add_decimals(const char *a, size_t a_length, const char *b, size_t b_length, char *out);

// Memory that one thread writes while others read it (the near cache). Each load and store is whole. "acquire": what comes
// behind it is not done before it; "release": what stands before it is done before it; the fences do the same for all
// loads before, and all stores behind them. Source: C11, 7.17.3.
static inline uint8_t clinux_load8(const uint8_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint16_t clinux_load16(const uint16_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint32_t clinux_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint64_t clinux_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void clinux_store8(uint8_t *p, uint8_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void clinux_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline uint32_t clinux_load32_acquire(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint64_t clinux_load64_acquire(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void clinux_store32_release(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void clinux_store64_release(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void clinux_count_all(uint64_t *p, size_t count) {
  for (size_t i = 0; i < count; i++) clinux_store64_release(p + i, clinux_load64(p + i) + 1);
}
static inline void clinux_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void clinux_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }

static inline void clinux_prefetch(const void *address) { __builtin_prefetch(address, 0, 3); }

#endif
