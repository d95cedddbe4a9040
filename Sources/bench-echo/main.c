// The limit of any server on this machine: for every REQUEST bytes that a connection sends it answers with the bytes
// of a file, whatever the request says. One thread, no table, no parser, one write a batch.
//
//   bench-echo SOCKET REQUEST FILE
//   bench-echo --uring SOCKET REQUEST FILE   (with io_uring instead of epoll)
//   bench-echo --uring                       (only asks: exit code 69 and a sentence where the kernel refuses io_uring)
//
// nearside-bench starts it, with the length of its requests and with the reply that a real server would give.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "echo.h"

char *replies;
size_t reply_length, replies_length;

int main(int count, char **arguments) {
  int with_uring = count > 1 && strcmp(arguments[1], "--uring") == 0;
  if (with_uring) {
    if (set_up_uring()) {
      fprintf(stderr, "this kernel refuses io_uring: %s\n", strerror(errno));
      return 69;
    }
    if (count == 2) return 0;
    count--;
    arguments++;
  }
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
  // epoll takes all who wait, so accept must not block; io_uring blocks nobody.
  int listener = socket(AF_UNIX, SOCK_STREAM | (with_uring ? 0 : SOCK_NONBLOCK), 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return 73;
  return with_uring ? serve_uring(listener, request) : serve_epoll(listener, request);
}
