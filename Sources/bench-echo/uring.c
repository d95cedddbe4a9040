// The same with io_uring in epoll's place: what another way to the kernel would change for a server that does nothing
// else. Connections come through one accept, and bytes through one receive each, that stay under way ("multishot") and
// take their memory from a ring of buffers; what is sent and what is waited for goes to the kernel in one call a turn.
//
// Sources: io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "echo.h"

enum { ENTRIES = 4096, BUFFERS = 1024, BUFFER = 16 * 1024 };
enum { ACCEPT, RECEIVE, SEND };  // the low bits of what a completion is known by

struct connection {
  int fd;
  int receives, sends, over;  // what is under way; whether the other end has gone
  size_t partial;             // bytes of a request whose rest has not come
  size_t owed;                // bytes of replies that have not been sent
};

static int ring, listener;
static unsigned *sq_head, *sq_tail, sq_mask, *cq_head, *cq_tail, cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static unsigned pending;
static struct io_uring_buf_ring *buffers;
static char *bytes;
static unsigned short buffers_tail;

static int enter(unsigned submit, unsigned wait) {
  return (int)syscall(__NR_io_uring_enter, ring, submit, wait, IORING_ENTER_GETEVENTS, NULL, 0);
}

static struct io_uring_sqe *next(void) {
  // The kernel takes all that is submitted, so there is room behind it.
  if (*sq_tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE) > sq_mask) {
    int taken = enter(pending, 0);
    if (taken > 0) pending -= (unsigned)taken;
  }
  struct io_uring_sqe *e = &sqes[*sq_tail & sq_mask];
  memset(e, 0, sizeof *e);
  return e;
}

static void submit(void) {
  __atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
  pending++;
}

static void accept_more(void) {
  struct io_uring_sqe *e = next();
  e->opcode = IORING_OP_ACCEPT;
  e->fd = listener;
  e->ioprio = IORING_ACCEPT_MULTISHOT;
  e->user_data = ACCEPT;
  submit();
}

static void receive(struct connection *c) {
  struct io_uring_sqe *e = next();
  e->opcode = IORING_OP_RECV;
  e->fd = c->fd;
  e->ioprio = IORING_RECV_MULTISHOT;
  e->flags = IOSQE_BUFFER_SELECT;
  e->user_data = (unsigned long long)(size_t)c | RECEIVE;
  c->receives = 1;
  submit();
}

// Sends what is owed, as far as it lies in one piece; the rest when that has gone.
static void settle(struct connection *c) {
  if (c->owed == 0 || c->sends || c->over) return;
  size_t at = (reply_length - c->owed % reply_length) % reply_length;
  struct io_uring_sqe *e = next();
  e->opcode = IORING_OP_SEND;
  e->fd = c->fd;
  e->addr = (unsigned long long)(size_t)(replies + at);
  e->len = (unsigned)(replies_length - at < c->owed ? replies_length - at : c->owed);
  e->msg_flags = MSG_NOSIGNAL;
  e->user_data = (unsigned long long)(size_t)c | SEND;
  c->sends = 1;
  submit();
}

static void leave(struct connection *c) {
  if (!c->over) shutdown(c->fd, SHUT_RDWR);
  c->over = 1;
  if (c->receives || c->sends) return;
  close(c->fd);
  free(c);
}

static void give_back(unsigned short number) {
  struct io_uring_buf *b = &buffers->bufs[buffers_tail & (BUFFERS - 1)];
  b->addr = (unsigned long long)(size_t)(bytes + (size_t)number * BUFFER);
  b->len = BUFFER;
  b->bid = number;
  __atomic_store_n(&buffers->tail, ++buffers_tail, __ATOMIC_RELEASE);
}

int set_up_uring(void) {
  struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                              .cq_entries = 4 * ENTRIES};
  ring = (int)syscall(__NR_io_uring_setup, ENTRIES, &p);
  if (ring < 0) return -1;
  size_t sq_size = p.sq_off.array + p.sq_entries * sizeof(unsigned);
  size_t cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
  int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
  char *sq = mmap(NULL, sq_size, protection, flags, ring, IORING_OFF_SQ_RING);
  char *cq = mmap(NULL, cq_size, protection, flags, ring, IORING_OFF_CQ_RING);
  sqes = mmap(NULL, p.sq_entries * sizeof *sqes, protection, flags, ring, IORING_OFF_SQES);
  if (sq == MAP_FAILED || cq == MAP_FAILED || (void *)sqes == MAP_FAILED) return -1;
  sq_head = (unsigned *)(sq + p.sq_off.head);
  sq_tail = (unsigned *)(sq + p.sq_off.tail);
  sq_mask = p.sq_entries - 1;
  unsigned *array = (unsigned *)(sq + p.sq_off.array);
  for (unsigned i = 0; i < p.sq_entries; i++) array[i] = i;
  cq_head = (unsigned *)(cq + p.cq_off.head);
  cq_tail = (unsigned *)(cq + p.cq_off.tail);
  cq_mask = p.cq_entries - 1;
  cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);

  size_t size = BUFFERS * sizeof(struct io_uring_buf);
  buffers = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  bytes = malloc((size_t)BUFFERS * BUFFER);
  if ((void *)buffers == MAP_FAILED || !bytes) return -1;
  struct io_uring_buf_reg registration = {.ring_addr = (unsigned long long)(size_t)buffers, .ring_entries = BUFFERS};
  if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &registration, 1)) return -1;
  for (unsigned short i = 0; i < BUFFERS; i++) give_back(i);
  return 0;
}

static void completed(struct io_uring_cqe *e, size_t request) {
  int what = (int)(e->user_data & 3), more = e->flags & IORING_CQE_F_MORE;
  struct connection *c = (struct connection *)(size_t)(e->user_data & ~3ULL);
  switch (what) {
  case ACCEPT:
    if (!more) accept_more();
    if (e->res < 0) return;
    c = calloc(1, sizeof *c);
    c->fd = e->res;
    receive(c);
    return;
  case RECEIVE:
    if (e->flags & IORING_CQE_F_BUFFER) give_back((unsigned short)(e->flags >> IORING_CQE_BUFFER_SHIFT));
    if (!more) c->receives = 0;
    if (e->res > 0) {
      size_t have = c->partial + (size_t)e->res;
      c->partial = have % request;
      c->owed += have / request * reply_length;
      settle(c);
    }
    if (c->over || e->res == 0 || (e->res < 0 && e->res != -ENOBUFS)) {
      leave(c);
    } else if (!more) {
      receive(c);
    }
    return;
  default:
    c->sends = 0;
    if (e->res > 0) c->owed -= (size_t)e->res;
    if (c->over || e->res <= 0) {
      leave(c);
    } else {
      settle(c);
    }
  }
}

int serve_uring(int accepting, size_t request) {
  listener = accepting;
  accept_more();
  for (;;) {
    int taken = enter(pending, 1);
    if (taken > 0) pending -= (unsigned)taken;
    if (taken < 0 && errno != EINTR && errno != EBUSY && errno != EAGAIN) return 71;
    unsigned head = *cq_head, tail = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) completed(&cqes[head & cq_mask], request);
    __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
  }
}
