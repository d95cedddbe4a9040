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

// Nanoseconds since boot, time in suspend included (CLOCK_BOOTTIME).
uint64_t clinux_boot_nanoseconds(void);

// Names the calling thread, for top -H and debuggers; at most 15 bytes are kept (prctl(2), PR_SET_NAME).
void clinux_name_thread(const char *name);

// Adds two decimal numbers as long doubles, which Swift has on x86 only, and writes the sum the way Redis writes it
// for INCRBYFLOAT: 17 digits behind the point, less the zeros at the end. `out` needs CLINUX_DECIMAL bytes. Returns
// the length; -1: one of them is no number, -2: the sum is not finite.
enum { CLINUX_DECIMAL = 5 * 1024 };
int clinux_add_decimals(const char *a, size_t a_length, const char *b, size_t b_length, char *out);

static inline void clinux_prefetch(const void *address) { __builtin_prefetch(address, 0, 3); }

#endif
