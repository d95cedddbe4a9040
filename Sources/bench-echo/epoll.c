// The way of a server that waits with epoll. One thread, one recv and one send for each connection that is ready.
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo.h"

struct connection {
  int fd;
  size_t partial;  // bytes of a request whose rest has not come
  size_t owed;     // bytes of replies that the kernel did not take
};

static char input[256 * 1024];

// Writes what is owed; 0: the connection has ended.
static int settle(int epoll, struct connection *c) {
  while (c->owed > 0) {
    // Replies are all alike, so where the next one goes on follows from what is left.
    size_t at = (reply_length - c->owed % reply_length) % reply_length;
    size_t length = replies_length - at < c->owed ? replies_length - at : c->owed;
    ssize_t n = send(c->fd, replies + at, length, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) return 0;
    c->owed -= (size_t)n;
  }
  struct epoll_event event = {.events = c->owed ? EPOLLOUT : EPOLLIN, .data.ptr = c};
  return c->owed == 0 || epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) == 0;
}

int serve_epoll(int listener, size_t request) {
  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);

  struct epoll_event events[512];
  for (;;) {
    int n = epoll_wait(epoll, events, 512, -1);
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (!c) {
        int fd;
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          c = calloc(1, sizeof *c);
          c->fd = fd;
          event = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
          epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
        continue;
      }
      int lives = 1;
      if (events[i].events & EPOLLOUT) {
        lives = settle(epoll, c);
        if (lives && c->owed == 0) {
          event = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
          epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
        }
      } else {
        ssize_t got = recv(c->fd, input, sizeof input, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) lives = 0;
        if (got > 0) {
          size_t have = c->partial + (size_t)got;
          c->partial = have % request;
          c->owed += have / request * reply_length;
          lives = settle(epoll, c);
        }
      }
      if (!lives) {
        close(c->fd);
        free(c);
      }
    }
  }
}
