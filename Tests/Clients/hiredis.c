/* hiredis. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *path;

static redisContext *connected(void) {
  struct timeval patience = {10, 0};
  redisContext *c = redisConnectUnixWithTimeout(path, patience);
  if (!c || c->err) {
    fprintf(stderr, "no connection: %s\n", c ? c->errstr : "out of memory");
    exit(1);
  }
  redisSetTimeout(c, patience);
  return c;
}

/* A reply in one line: an array's elements with spaces between them, errors with "-" before them. */
static void append(char *line, size_t size, const redisReply *reply) {
  size_t used = strlen(line);
  switch (reply->type) {
  case REDIS_REPLY_NIL: snprintf(line + used, size - used, "nil"); break;
  case REDIS_REPLY_INTEGER: snprintf(line + used, size - used, "%lld", reply->integer); break;
  case REDIS_REPLY_ERROR: snprintf(line + used, size - used, "-%s", reply->str); break;
  case REDIS_REPLY_ARRAY:
    for (size_t i = 0; i < reply->elements; i++) {
      if (i > 0) strncat(line, " ", size - strlen(line) - 1);
      append(line, size, reply->element[i]);
    }
    break;
  default: snprintf(line + used, size - used, "%s", reply->str);
  }
}

static void same(redisContext *c, void *reply, const char *expected) {
  char line[1024] = "";
  if (!reply) {
    fprintf(stderr, "%s instead of %s\n", c->errstr, expected);
    exit(1);
  }
  append(line, sizeof line, reply);
  if (strcmp(line, expected) != 0) {
    fprintf(stderr, "%s instead of %s\n", line, expected);
    exit(1);
  }
  freeReplyObject(reply);
}

static void *next(redisContext *c) {
  void *reply = NULL;
  return redisGetReply(c, &reply) == REDIS_OK ? reply : NULL;
}

int main(int count, char **arguments) {
  if (count < 3) return 64;
  path = arguments[1];
  redisContext *c = connected();
  same(c, redisCommand(c, "SET s %s EX %d", "1", 60), "OK");
  same(c, redisCommand(c, "GET s"), "1");
  same(c, redisCommand(c, "MGET s none"), "1 nil");
  same(c, redisCommand(c, "SET s %b", "1\0002", (size_t)3), "OK");
  same(c, redisCommand(c, "STRLEN s"), "3");
  same(c, redisCommand(c, "HSET h a 1 b 2"), "2");
  same(c, redisCommand(c, "HGETALL h"), "a 1 b 2");
  same(c, redisCommand(c, "LPUSH s x"), "-WRONGTYPE Operation against a key holding the wrong kind of value");

  redisAppendCommand(c, "SET p 1");
  redisAppendCommand(c, "GET p");
  redisAppendCommand(c, "GET none");
  same(c, next(c), "OK");
  same(c, next(c), "1");
  same(c, next(c), "nil");

  same(c, redisCommand(c, "WATCH p"), "OK");
  same(c, redisCommand(c, "MULTI"), "OK");
  same(c, redisCommand(c, "INCR p"), "QUEUED");
  same(c, redisCommand(c, "GET p"), "QUEUED");
  same(c, redisCommand(c, "EXEC"), "2 2");

  const char *release = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
  same(c, redisCommand(c, "SET lock me NX PX 5000"), "OK");
  same(c, redisCommand(c, "SET lock you NX PX 5000"), "nil");
  same(c, redisCommand(c, "EVAL %s 1 lock you", release), "0");
  same(c, redisCommand(c, "EVAL %s 1 lock me", release), "1");

  redisContext *subscriber = connected();
  same(subscriber, redisCommand(subscriber, "SUBSCRIBE news"), "subscribe news 1");
  same(c, redisCommand(c, "PUBLISH news hello"), "1");
  same(subscriber, next(subscriber), "message news hello");
  same(subscriber, redisCommand(subscriber, "UNSUBSCRIBE news"), "unsubscribe news 0");
  same(subscriber, redisCommand(subscriber, "GET p"), "2");
  redisFree(subscriber);

  same(c, redisCommand(c, "GET %s:user:1", arguments[2]), "ada");
  same(c, redisCommand(c, "DEL s h p"), "3");
  redisFree(c);
  return 0;
}
