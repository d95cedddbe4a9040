// The limit of any server on this machine: for every REQUEST bytes that a connection sends it answers with the bytes
// of a file, whatever the request says. One thread, epoll, no table, no parser, one write a batch.
//
//   bench-echo SOCKET REQUEST FILE
//
// nearside-bench starts it, with the length of its requests and with the reply that a real server would give.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct connection {
  int fd;
  size_t partial;  // bytes of a request whose rest has not come
  size_t owed;     // bytes of replies that the kernel did not take
};

static char input[256 * 1024];
static char *replies;
static size_t reply_length, replies_length;

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

int main(int count, char **arguments) {
  if (count != 4) return 64;
  size_t request = strtoul(arguments[2], NULL, 10);
  FILE *file = fopen(arguments[3], "rb");
  if (!file || request == 0) return 66;
  static char one[1 << 20];
  reply_length = fread(one, 1, sizeof one, file);
  fclose(file);
  if (reply_length == 0) return 65;
  size_t copies = reply_length > 64 * 1024 ? 1 : 64 * 1024 / reply_length;
  replies_length = copies * reply_length;
  replies = malloc(replies_length);
  for (size_t i = 0; i < copies; i++) memcpy(replies + i * reply_length, one, reply_length);

  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", arguments[1]);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return 73;
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
        ssize_t got = read(c->fd, input, sizeof input);
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
