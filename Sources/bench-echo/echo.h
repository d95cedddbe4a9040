// What both ways of serving share: the replies, one behind the other, so that one call sends many of them.
#include <stddef.h>

extern char *replies;
extern size_t reply_length, replies_length;

// Answers every `request` bytes that a connection sends with a reply; returns an exit code when it cannot go on.
int serve_epoll(int listener, size_t request);
int serve_uring(int listener, size_t request);

// 0, or -1 with errno where the kernel refuses io_uring. To be called before `serve_uring`.
int set_up_uring(void);
