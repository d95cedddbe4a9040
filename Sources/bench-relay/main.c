// The limit of any proxy on this machine: it copies bytes between a connection and one of its own to the server, in
// both directions, without looking at them. One thread, epoll.
//
//   bench-relay SOCKET UPSTREAM          (UPSTREAM: the path of a Unix socket, or a port on 127.0.0.1)
//
// nearside-bench starts it before a redis-server.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ROOM = 64 * 1024 };

struct end {
  int fd;
  struct end *other;
  size_t start, stop;  // what was read here and the other end has not taken
  int reads, writes;   // what epoll watches for
  int dead;
  char bytes[ROOM];
};

static int epoll;

static void watch(struct end *e) {
  int reads = e->stop - e->start < ROOM, writes = e->other->stop > e->other->start;
  if (reads == e->reads && writes == e->writes) return;
  e->reads = reads;
  e->writes = writes;
  struct epoll_event event = {.events = (reads ? EPOLLIN : 0) | (writes ? EPOLLOUT : 0), .data.ptr = e};
  epoll_ctl(epoll, EPOLL_CTL_MOD, e->fd, &event);
}

// Sends what `from` has read to the other end; 0: that has ended.
static int pass(struct end *from) {
  while (from->stop > from->start) {
    ssize_t n = send(from->other->fd, from->bytes + from->start, from->stop - from->start, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return 1;
    if (n <= 0) return 0;
    from->start += (size_t)n;
  }
  from->start = from->stop = 0;
  return 1;
}

static int take(struct end *e) {
  if (e->stop == ROOM) return 1;
  ssize_t n = recv(e->fd, e->bytes + e->stop, ROOM - e->stop, 0);
  if (n < 0 && errno == EAGAIN) return 1;
  if (n <= 0) return 0;
  e->stop += (size_t)n;
  return pass(e);
}

static struct end *add(int fd) {
  struct end *e = malloc(sizeof *e);
  memset(e, 0, offsetof(struct end, bytes));
  e->fd = fd;
  e->reads = 1;
  return e;
}

int main(int count, char **arguments) {
  if (count != 3) return 64;
  struct sockaddr_un own = {.sun_family = AF_UNIX}, path = {.sun_family = AF_UNIX};
  snprintf(own.sun_path, sizeof own.sun_path, "%s", arguments[1]);
  snprintf(path.sun_path, sizeof path.sun_path, "%s", arguments[2]);
  struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[2]))};
  port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int tcp = arguments[2][0] != '/';
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&own, sizeof own) || listen(listener, 4096)) return 73;
  epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);

  struct epoll_event events[512];
  struct end *gone[1024];
  for (;;) {
    int n = epoll_wait(epoll, events, 512, -1), left = 0;
    for (int i = 0; i < n; i++) {
      struct end *e = events[i].data.ptr;
      if (!e) {
        int fd;
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          int up = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0), on = 1;
          if (tcp ? connect(up, (struct sockaddr *)&port, sizeof port)
                  : connect(up, (struct sockaddr *)&path, sizeof path)) return 69;
          fcntl(up, F_SETFL, O_NONBLOCK);
          if (tcp) setsockopt(up, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          struct end *a = add(fd), *b = add(up);
          a->other = b;
          b->other = a;
          event = (struct epoll_event){.events = EPOLLIN, .data.ptr = a};
          epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
          event.data.ptr = b;
          epoll_ctl(epoll, EPOLL_CTL_ADD, up, &event);
        }
        continue;
      }
      if (e->dead) continue;
      int lives = 1;
      if (events[i].events & EPOLLOUT) lives = pass(e->other);
      if (lives && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) lives = take(e);
      if (lives) {
        watch(e);
        watch(e->other);
      } else {
        e->dead = e->other->dead = 1;
        close(e->fd);
        close(e->other->fd);
        gone[left++] = e;
        gone[left++] = e->other;
      }
    }
    for (int i = 0; i < left; i++) free(gone[i]);
  }
}
