// redigo.
package main

import (
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/gomodule/redigo/redis"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Takes what redis.String and its kin give, too: a value and an error.
func same(expected interface{}) func(actual interface{}, err error) {
	return func(actual interface{}, err error) {
		check(err)
		if !reflect.DeepEqual(actual, expected) {
			check(fmt.Errorf("%#v instead of %#v", actual, expected))
		}
	}
}

func main() {
	path, namespace := os.Args[1], os.Args[2]
	pool := &redis.Pool{
		Dial: func() (redis.Conn, error) { return redis.Dial("unix", path) },
		TestOnBorrow: func(c redis.Conn, _ time.Time) error {
			_, err := c.Do("PING")
			return err
		},
	}
	defer pool.Close()
	c := pool.Get()
	defer c.Close()

	same("OK")(c.Do("SET", "s", "1", "EX", 60))
	same("1")(redis.String(c.Do("GET", "s")))
	same(int64(2))(c.Do("INCR", "s"))
	same([]string{"2", ""})(redis.Strings(c.Do("MGET", "s", "none")))
	same(int64(2))(c.Do("HSET", redis.Args{}.Add("h").AddFlat(map[string]int{"a": 1, "b": 2})...))
	same(map[string]string{"a": "1", "b": "2"})(redis.StringMap(c.Do("HGETALL", "h")))

	check(c.Send("SET", "p", "1"))
	check(c.Send("GET", "p"))
	check(c.Send("GET", "none"))
	check(c.Flush())
	same("OK")(c.Receive())
	same("1")(redis.String(c.Receive()))
	same(nil)(c.Receive())

	check(c.Send("MULTI"))
	check(c.Send("INCR", "p"))
	check(c.Send("GET", "p"))
	same([]interface{}{int64(2), []byte("2")})(c.Do("EXEC"))
	same("OK")(c.Do("WATCH", "p"))
	check(c.Send("MULTI"))
	check(c.Send("INCR", "p"))
	same([]interface{}{int64(3)})(c.Do("EXEC"))

	// The library sends EVALSHA, and EVAL after NOSCRIPT.
	release := redis.NewScript(1, "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
	same("OK")(c.Do("SET", "lock", "me", "NX", "PX", 5000))
	same(nil)(c.Do("SET", "lock", "you", "NX", "PX", 5000))
	same(int64(0))(release.Do(c, "lock", "you"))
	same(int64(1))(release.Do(c, "lock", "me"))

	subscriber := redis.PubSubConn{Conn: pool.Get()}
	check(subscriber.Subscribe("news"))
	same(redis.Subscription{Kind: "subscribe", Channel: "news", Count: 1})(subscriber.Receive(), nil)
	same(int64(1))(c.Do("PUBLISH", "news", "hello"))
	same(redis.Message{Channel: "news", Data: []byte("hello")})(subscriber.ReceiveWithTimeout(5*time.Second), nil)
	// The pool takes the connection back, subscribed as it is, and makes it a usual one again.
	check(subscriber.Conn.Close())
	again := pool.Get()
	same("3")(redis.String(again.Do("GET", "p")))
	check(again.Close())

	same("ada")(redis.String(c.Do("GET", namespace+":user:1")))
	same(int64(3))(c.Do("DEL", "s", "h", "p"))
}
