import Testing

@testable import Configuration

@Suite("What a wrong configuration is told")
struct ConfigurationErrorTests {
  @Test(
    "unknown keys, with what was probably meant",
    arguments: [
      (#""tabels": 1"#, #"1:2+8 unknown-key unknown key "tabels"; did you mean "tables"?"#),
      (#""near": {"Size": "1MiB"}"#, #"1:11+6 unknown-key unknown key "Size" in near; did you mean "size"?"#),
      (#""maxEntry": 1"#, #"1:2+10 unknown-key unknown key "maxEntry"; it belongs in "near""#),
      (
        #""near": {"plainSet": 1}"#,
        #"1:11+10 unknown-key unknown key "plainSet" in near; it belongs at the top level of the file"#
      ),
      (
        #""journal": {"x": 1}"#,
        #"1:14+3 unknown-key unknown key "x" in journal; the keys here are "keep", "size""#
      ),
      (
        #""caches": {"k:{id}": {"neer": false}}"#,
        #"1:24+6 unknown-key unknown key "neer" in caches."k:{id}"; did you mean "near"?"#
      ),
      (
        #""postgres": {"slot": {"nane": 1}}"#,
        #"1:24+6 unknown-key unknown key "nane" in postgres.slot; did you mean "name"?"#
      ),
      (#""near.size": 1"#, #"1:2+11 unknown-key unknown key "near.size"; the keys here are "$schema","#),
    ])
  func unknownKeys(members: String, expected: String) {
    let found = complaints(members)
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix(expected) == true, "\(found)")
  }

  @Test("keys of the design that this version does not have say so")
  func notYet() {
    for (section, names) in ConfigurationOption.notYet {
      for name in names {
        let members =
          switch section {
          case "": "\"\(name)\": {}"
          case "tables.*": ""
          case "caches.*": "\"caches\": {\"k:{id}\": {\"\(name)\": 1}}"
          default: "\"\(section)\": {\"\(name)\": 1}"
          }
        let text =
          section == "tables.*"
          ? "{\"tables\": {\"t\": {\"keys\": \"k:{id}\", \"\(name)\": 1}}}"
          : "{\(members), \"tables\": {\"t\": \"k:{id}\"}}"
        let messages = read(text).diagnostics.map(\.sentence)
        #expect(messages.contains("\"\(name)\" is not supported by this version"), "\(section).\(name)")
      }
    }
  }

  @Test(
    "values of a wrong type",
    arguments: [
      (#""namespace": 1"#, #"1:15+1 wrong-type "namespace" must be text in double quotes, not a number"#),
      (
        #""postgres": 5"#,
        #"1:14+1 wrong-type "postgres" must be text in double quotes or an object, not a number"#
      ),
      (
        #""redis": null, "namespace": "s""#,
        #"1:11+4 wrong-type "redis" must be text in double quotes or an object, not null"#
      ),
      (
        #""listen": ["a"]"#,
        #"1:12+1 wrong-type "listen" must be text in double quotes or an object, not a list"#
      ),
      (#""near": false"#, #"1:10+5 wrong-type "near" must be an object, not a boolean"#),
      (#""log": {"level": {}}"#, #"1:19+1 wrong-type "level" must be text in double quotes, not an object"#),
      (
        #""caches": []"#,
        #"1:12+1 wrong-type "caches" must be an object such as {"user:{id}": {"near": false}}, not a list"#
      ),
      (#""caches": {"k:{id}": false}"#, #"1:23+5 wrong-type "k:{id}" must be an object, not a boolean"#),
      (
        #""caches": {"k:{id}": {"near": true}}"#,
        #"1:32+4 wrong-type "near" must be false or an object such as {"ttl": "5s"}, not a boolean"#
      ),
      (#""$schema": 1"#, #"1:13+1 wrong-type "$schema" must be text in double quotes, not a number"#),
    ])
  func types(members: String, expected: String) { #expect(complaints(members) == [expected]) }

  @Test(
    "values that cannot be",
    arguments: [
      (
        #""staleness": {"bound": "2 sec"}"#,
        #"1:25+7 bad-value "2 sec" is not a duration; write it like "2s" or "250ms""#
      ),
      (#""staleness": {"bound": 250}"#, #"1:25+3 wrong-type 250 has no unit; write "250ms" or "250s""#),
      (#""staleness": {"bound": "250"}"#, #"1:25+5 bad-value 250 has no unit; write "250ms" or "250s""#),
      (#""staleness": {"bound": 1.5}"#, #"1:25+3 wrong-type 1.5 has no unit; write "2s" or "250ms""#),
      (
        #""staleness": {"bound": "0s"}"#,
        #"1:25+4 bad-value "0s" is zero; a duration above zero is needed here"#
      ),
      (#""near": {"size": 64}"#, #"1:19+2 wrong-type 64 has no unit; write "64MiB" or "64B""#),
      (
        #""near": {"size": "64mb"}"#,
        #"1:19+6 bad-value "64mb" is not a size; write it like "256MiB" or "64KB""#
      ),
      (
        #""near": {"size": "1MiB", "maxEntry": "2MiB"}"#,
        "1:39+6 bad-value near.maxEntry (2097152 bytes) is larger than near.size (1048576 bytes)"
      ),
      (#""listen": {"mode": 660}"#, #"1:21+3 wrong-type 660 is not a file mode; write "0660""#),
      (#""listen": {"mode": "600"}"#, #"1:21+5 bad-value 600 is not a file mode; write "0600""#),
      (#""listen": {"mode": "0888"}"#, #"1:21+6 bad-value 0888 is not a file mode; write "0660""#),
      (#""listen": """#, "1:12+2 bad-value this text is empty; leave the key out for the default"),
      (
        #""listen": {"socket": "/a\u0000b"}"#,
        "1:26+6 bad-value there can be no control character here"
      ),
      (
        #""listen": {"tcp": "6380"}"#,
        #"1:20+6 bad-value "6380" is not an address with a port; write it like "127.0.0.1:6380" or "[::1]:6380""#
      ),
      (
        #""listen": {"tcp": "0.0.0.0:6380"}"#,
        "1:20+14 bad-value \"0.0.0.0:6380\" is not a loopback address, and Nearside serves the programs of its own "
          + "host only; use 127.0.0.1 or [::1], with a port"
      ),
      (
        #""listen": {"tcp": "localhost:6380"}"#,
        "1:20+16 bad-value \"localhost:6380\" is not a loopback address, and Nearside serves the programs of its own "
          + "host only; use 127.0.0.1 or [::1], with a port"
      ),
      (
        #""listen": {"busyPoll": "2ms"}"#,
        #"1:25+5 bad-value that is more than "1ms", and a processor is taken for as long; "50us" is long enough for a "#
          + "client that waits for each answer"
      ),
      (#""listen": {"group": ""}"#, "1:22+2 bad-value this text is empty; leave the key out for the default"),
      (
        #""plainSet": "windw""#,
        #"1:14+7 bad-value "windw" is none of "window", "aged", "off"; did you mean "window"?"#
      ),
      (
        #""log": {"level": "loud"}"#,
        #"1:19+6 bad-value "loud" is none of "trace", "debug", "info", "notice", "warning", "error""#
      ),
      (
        #""namespace": "Shop""#,
        #"1:15+6 bad-value "Shop" cannot be this name, which has 1 to 40 lower-case letters, digits and underscores"#
      ),
      (
        #""namespace": "nearside""#,
        "1:15+10 bad-value the namespace cannot be \"nearside\", under which Nearside keeps its own state in Redis"
      ),
      (
        #""postgres": {"publication": "a-b"}"#,
        #"1:30+5 bad-value "a-b" cannot be this name, which has 1 to 63 lower-case letters, digits and underscores"#
      ),
      (
        #""postgres": {"slot": {"mode": "durable"}}"#,
        "1:32+9 bad-value a durable slot needs Redis, where its sidecars keep what they know; "
          + "without Redis write \"temporary\" or leave this out"
      ),
      (
        #""postgres": {"slot": {"name": "a23456789012345678901234567890123456789012345678901234"}}"#,
        ""
      ),
      (
        #""postgres": {"slot": {"name": "a234567890123456789012345678901234567890123456789012345"}}"#,
        "1:32+57 bad-value a temporary slot's name has at most 54 letters, since nine are appended to it"
      ),
      (
        #""postgres": "mysql://db""#,
        "1:14+12 bad-value a PostgreSQL URL begins with postgresql://; "
          + "libpq's other form is \"host=db.internal dbname=shop\""
      ),
    ])
  func values(members: String, expected: String) {
    #expect(complaints(members) == (expected.isEmpty ? [] : [expected]))
  }

  @Test("a socket's path has at most 107 bytes, wherever it comes from")
  func longPath() {
    let path = "/" + String(repeating: "é", count: 53)
    #expect(complaints("\"listen\": \"\(path)\"") == [])
    #expect(
      complaints("\"listen\": \"\(path)x\"") == [
        "1:12+57 bad-value the path of this socket has 108 bytes; a Unix socket's path has at most 107"
      ])
    #expect(
      complaints("\"log\": {}", environment: ["RUNTIME_DIRECTORY": path]) == [
        "bad-value the path of the socket in $RUNTIME_DIRECTORY has 118 bytes; a Unix socket's path has at most 107"
      ])
  }

  @Test("Redis needs a namespace and a url")
  func redis() {
    let needed =
      "\"namespace\" is required with Redis: it bounds which keys there may be cleared, and names the "
      + "replication slot; add for example \"namespace\": \"shop\""
    #expect(complaints(#""redis": "redis://h""#) == ["1:1+1 missing \(needed)"])
    #expect(complaints("\"log\": {}", environment: ["REDIS_URL": "redis://h"]) == ["1:1+1 missing \(needed)"])
    #expect(
      complaints(#""namespace": "s", "redis": {}"#) == [
        "1:29+1 missing Redis has no url here, and REDIS_URL is not set; "
          + "add for example \"url\": \"redis://cache.internal:6379\""
      ])
    #expect(
      complaints(#""namespace": "s", "redis": """#) == [
        "1:29+2 bad-value the Redis URL is empty; leave the key out to work without Redis"
      ])
    #expect(
      complaints(#""namespace": "s""#, environment: ["REDIS_URL": "cache:6379"]) == [
        "bad-value environment variable REDIS_URL: a Redis URL begins with redis://, rediss:// (TLS) or unix://, "
          + "as in \"redis://cache.internal:6379\""
      ])
    #expect(
      complaints(#""namespace": "s""#, environment: ["DATABASE_URL": "db"]).first?.hasPrefix(
        "bad-value environment variable DATABASE_URL: a PostgreSQL URL begins with") == true)
  }

  @Test(
    "a Redis URL that cannot be used says why",
    arguments: [
      ("http://h", "bad-value a Redis URL begins with redis://, rediss:// (TLS) or unix://"),
      ("rediss://", "bad-value the host is missing or malformed in this Redis URL"),
      ("rediss://h?verify=0", "bad-value nothing follows the database in a Redis URL"),
      ("redis://", "bad-value the host is missing or malformed in this Redis URL"),
      ("redis://:p@:1", "bad-value the host is missing or malformed in this Redis URL"),
      ("redis://h:", "bad-value the port of this Redis URL is not a number from 1 to 65535"),
      ("redis://h:0", "bad-value the port of this Redis URL is not a number from 1 to 65535"),
      ("redis://h:65536", "bad-value the port of this Redis URL is not a number from 1 to 65535"),
      ("redis://:a/b@h", "bad-value the host is missing or malformed in this Redis URL; in a password, /"),
      ("redis://::1:6379", "bad-value the"),
      ("redis://[::1", "bad-value the closing bracket of the IPv6 address is missing"),
      ("redis://[::1]x", "bad-value after an IPv6 address in brackets only a port can follow"),
      ("redis://h/x", "bad-value after the host of a Redis URL stands the number of a database"),
      ("redis://h/-1", "bad-value after the host of a Redis URL stands the number of a database"),
      ("redis://h?db=1", "bad-value nothing follows the database in a Redis URL"),
      ("redis://:%zz@h", "bad-value a % in this Redis URL is not followed by two hexadecimal digits"),
      ("redis://:%ff@h", "bad-value a %-escape in this Redis URL does not give UTF-8 text"),
      ("unix://r.sock", "bad-value a Unix socket is named with its whole path"),
      ("unix:///r?x=1", "bad-value after the path of a unix:// URL only ?db=<number> can follow"),
      ("unix:///r?db=", "bad-value after the path of a unix:// URL only ?db=<number> can follow"),
    ])
  func redisURLs(url: String, expected: String) {
    let found = complaints("\"namespace\": \"s\", \"redis\": \"\(url)\"")
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix("1:29+\(url.count + 2) " + expected) == true, "\(found)")
  }

  @Test(
    "what is wrong about TLS to Redis is said at its place",
    arguments: [
      (
        #""rediss://h", "tls": {"ca": "ca.pem"}"#,
        "1:65+8 bad-value a file is named with its whole path, from /"
      ),
      (
        #""rediss://h", "tls": {"key": "/k"}"#,
        "1:66+4 missing a private key is of use only with its certificate; add \"certificate\""
      ),
      (
        #""rediss://h", "tls": {"serverName": "a b"}"#,
        "1:73+5 bad-value the name in the server's certificate is a host name, such as \"cache.internal\", or an IP "
          + "address"
      ),
      (
        #""rediss://h", "tls": {"verify": false}"#,
        "1:69+5 warning bad-value whoever can reach this network can pretend to be this Redis, and read the password; leave "
          + "\"verify\" out, and name the CA's file as \"ca\""
      ),
      (
        #""redis://h", "tls": {"ca": "/ca"}"#,
        "1:37+11 bad-value the Redis URL says redis://, which is not encrypted, but \"tls\" is set; write rediss://"
      ),
      (#""rediss://h", "tls": {"cert": "/c"}"#, "1:59+6 unknown-key unknown key \"cert\" in redis.tls"),
    ])
  func tls(redis: String, expected: String) {
    let found = complaints("\"namespace\": \"s\", \"redis\": {\"url\": \(redis)}")
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix(expected) == true, "\(found)")
  }

  @Test(
    "references that cannot be replaced are underlined",
    arguments: [
      (
        "a${NOPE}",
        "1:13+7 unset-variable environment variable NOPE is not set; set it, or write ${NOPE:-default}"
      ),
      ("${NOPE:?ask Ann}", "1:12+16 unset-variable environment variable NOPE is not set: ask Ann"),
      ("${EMPTY:?ask Ann}", "1:12+17 unset-variable environment variable EMPTY is not set: ask Ann"),
      ("${NOPE:?}", "1:12+9 unset-variable environment variable NOPE is not set: set it"),
      ("a$b", "1:13+1 bad-reference a dollar sign is written $$, and an environment variable ${NAME}"),
      ("ab$", "1:14+1 bad-reference a dollar sign is written $$, and an environment variable ${NAME}"),
      (
        "a${B",
        "1:13+2 bad-reference the closing brace of this reference is missing; a dollar sign itself is written $$"
      ),
      (
        "${B-x}",
        "1:12+6 bad-reference a reference is written ${NAME}, ${NAME:-default}, ${NAME:?message}, "
          + "${file:/path} or ${cred:name}"
      ),
      (
        "${B:x}",
        "1:12+6 bad-reference after B: only a -default or a ?message can follow, as in ${B:-default}"
      ),
      ("${file:x}", "1:12+9 bad-reference a file is named with its whole path, from /"),
      ("${file:/none}", "1:12+13 unreadable-file the file \"/none\" cannot be read"),
      (
        "${cred:x}",
        "1:12+9 unset-variable CREDENTIALS_DIRECTORY is not set; "
          + "systemd sets it for a unit with LoadCredential=x:…"
      ),
      (
        "${cred:../x}",
        "1:12+12 bad-reference a credential has the name that LoadCredential= gives it, without a /"
      ),
    ])
  func references(text: String, expected: String) {
    #expect(
      complaints(
        "\"listen\": \"\(text)\"".replacing("\"listen\": ", with: "\"listen\":"),
        environment: ["EMPTY": ""]) == [expected])
  }

  @Test("a file that is no text is refused")
  func binaryFile() {
    let reading = ConfigurationReader.read(
      Array(#"{"listen": "${file:/b}", "tables": {"t": "k"}}"#.utf8), file: "c.json", environment: [:]
    ) { _ in [0x61, 0xff] }
    #expect(
      summary(reading.diagnostics) == ["1:13+10 unreadable-file the file \"/b\" does not hold UTF-8 text"])
  }

  @Test(
    "tables that cannot be",
    arguments: [
      (
        "{}",
        #"1:1+1 missing "tables" is missing: it says which keys a change clears; add for example "tables": {"users": "user:{id}"}"#
      ),
      ("[]", "1:1+1 wrong-type a configuration must be an object, not a list"),
      (
        #"{"tables": {}}"#,
        #"1:12+1 missing "tables" names no table, so nothing could be cached; add for example "users": "user:{id}""#
      ),
      (
        #"{"tables": "users"}"#,
        #"1:12+7 wrong-type "tables" must be an object such as {"users": "user:{id}"}, not a string"#
      ),
      (
        #"{"tables": {"a": 1}}"#,
        #"1:18+1 wrong-type "a" must be a key template, a list of them, or an object, not a number"#
      ),
      (
        #"{"tables": {"a": []}}"#,
        #"1:18+1 missing this list of keys is empty; add for example "user:{id}""#
      ),
      (
        #"{"tables": {"a": ["x", 1]}}"#,
        "1:24+1 wrong-type an element of this list must be text in double quotes, not a number"
      ),
      (
        #"{"tables": {"a": {}}}"#,
        #"1:18+1 missing this table has no "keys"; add for example "keys": ["user:{id}"]"#
      ),
      (
        #"{"tables": {"a": {"keys": {}}}}"#,
        #"1:27+1 wrong-type "keys" must be a key template in double quotes or a list of them, not an object"#
      ),
      (
        #"{"tables": {"a": {"keys": "x", "columns": "y"}}}"#,
        #"1:43+3 wrong-type "columns" must be a list, not a string"#
      ),
      (
        #"{"tables": {"a": {"keys": "x", "columns": []}}}"#,
        "1:43+1 bad-value this list is empty; leave the key out for the default"
      ),
      (
        #"{"tables": {"a": {"keys": "x", "columns": ["y", "y"]}}}"#,
        "1:49+3 warning given-twice this stands twice in this list"
      ),
      (
        #"{"tables": {"a": {"keys": "x", "on": ["updat"]}}}"#,
        #"1:39+7 bad-value "updat" is none of "insert", "update", "delete", "truncate"; did you mean "update"?"#
      ),
      (
        #"{"tables": {"a": ["x", "x"]}}"#,
        "1:24+3 warning given-twice this template stands twice in this list"
      ),
      (
        #"{"tables": {"a": "x", "public.a": "y"}}"#,
        "1:23+10 given-twice table public.a has two rules; the first is at 1:13"
      ),
      (
        #"{"tables": {"a": "x", "a": "y"}}"#,
        #"1:23+3 duplicate-key the key "a" stands here twice; the first is at 1:13"#
      ),
      (
        #"{"tables": {"a.b.c": "x"}}"#,
        #"1:13+7 bad-value "a.b.c" is not a table's name; write it as the catalogue has it, like "users" or "shop.users""#
      ),
      (
        #"{"tables": {"": "x"}}"#,
        #"1:13+2 bad-value "" is not a table's name; write it as the catalogue has it, like "users" or "shop.users""#
      ),
      (#"{"tables": {"a": "x:{id"}}"#, "1:21+1 bad-template the closing brace of this column is missing"),
      (
        #"{"tables": {"a": ["\u0078:{i d}"]}}"#,
        "1:29+1 bad-template there are no spaces around or in a column's name"
      ),
      (
        #"{"tables": {"a": "x:{id|lowre}"}}"#,
        #"1:25+5 bad-template there is no filter "lowre"; there are lower, urlencode and raw; did you mean "lower"?"#
      ),
      (
        #"{"tables": {"a": "x:{id}*"}}"#,
        "1:25+1 bad-template a : must stand between the last column and the *, as in "
          + "\"category:{category_id}:*\"; otherwise the keys of 42 would count as keys of 4"
      ),
      (
        #"{"tables": {"a": {"tags": ["t:{id}:*"]}}}"#,
        "1:28+10 bad-template a tag is a whole name, so it does not end in *"
      ),
    ])
  func tables(text: String, expected: String) { #expect(summary(read(text).diagnostics) == [expected]) }

  @Test(
    "caches that cannot be, or do nothing",
    arguments: [
      (#""caches": {"k:{x}-*": {}}"#, "1:20+1 bad-template a : must stand between the last column and the *"),
      (#""caches": {"k:{}": {}}"#, "1:16+2 bad-template a column's name is missing between these braces"),
      (
        #""caches": {"k:{id}": {}, "k:{x|lower}": {}}"#,
        "1:27+13 given-twice this template covers the same keys as the one at 1:13"
      ),
      (
        #""caches": {"session:{id}": {"near": false}}"#,
        "1:13+14 warning no-effect no table has a template for these keys, so they are not cached and this "
          + "rule has no effect"
      ),
    ])
  func caches(members: String, expected: String) {
    let found = complaints(members)
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix(expected) == true, "\(found)")
  }

  @Test("a warning does not stand in the way, and a cache for a part of a template's keys is no warning")
  func warnings() {
    #expect(read(#"{"tables": {"a": ["x", "x"]}}"#).settings != nil)
    #expect(complaints(#""caches": {"k:me": {"near": false}}"#) == [])
  }

  @Test(
    "tags that cannot be, or do nothing",
    arguments: [
      (
        #""a": {"tags": ["t:{x}"]}"#, #""k:{id}": {"tags": ["t:{x}"]}"#,
        ["not-supported the tag names column \"x\", which the key \"k:{id}\" does not hold"]
      ),
      (
        #""a": {"tags": ["t:{x|lower}"]}"#, #""k:{x}": {"tags": ["t:{x|lower}"]}"#,
        ["bad-value the tag and the key \"k:{x}\" write column \"x\" with different filters"]
      ),
      (
        #""a": {"tags": ["t:{x}"]}"#, #""k:{x}-{y}": {"tags": ["t:{x}"]}"#,
        ["bad-value where column \"x\" begins and ends in a key cannot be told"]
      ),
      (
        #""a": {"tags": ["t:{x}"]}"#, #""k:{x}": {"tags": ["u:{x}"]}"#,
        [
          "warning no-effect no cache has this tag, so hitting it has no effect",
          "warning no-effect no table hits this tag, so only NEARSIDE INVALIDATE TAG does",
        ]
      ),
      (
        #""a": {"tags": ["t:{x|lower}"]}"#, #""k:{x}": {"tags": ["t:{x}"]}"#,
        ["warning no-effect no cache has this tag", "warning no-effect no table hits this tag"]
      ),
      (
        #""a": {"tags": ["t:{id}"]}"#, #""k:{x|raw}:*": {"tags": ["t:{x}", "all"]}"#,
        ["warning no-effect no table hits"]
      ),
      (#""a": {"tags": "t:{id}"}"#, #""k:{x}": {"tags": "t:{x}"}"#, []),
    ])
  func tags(table: String, cache: String, expected: [String]) {
    let found = summary(read("{\"tables\": {\(table)}, \"caches\": {\(cache)}}").diagnostics)
    // Of tags that are left out for an error the other side has none to meet.
    let relevant =
      expected.first?.hasPrefix("warning") ?? true ? found : found.filter { !$0.contains("warning") }
    #expect(relevant.count == expected.count, "\(found)")
    for (found, expected) in zip(relevant, expected) { #expect(found.contains(expected), "\(found)") }
  }

  @Test("a table with tags alone is a rule, and keys are governed by their caches' tags")
  func tagsGovern() throws {
    let settings = try #require(
      read(#"{"tables": {"a": {"tags": "t:{id}"}}, "caches": {"k:{x}": {"tags": "t:{x}"}, "l": {}}}"#)
        .settings)
    #expect(settings.tables[0].keys == [])
    #expect(settings.tables[0].tags.map(\.text) == ["t:{id}"])
    #expect(settings.caches[0].tags.map(\.text) == ["t:{x}"])
    #expect(settings.governed.map(\.text) == ["k:{x}"])
  }

  @Test("all errors at once, in the order of the file")
  func allAtOnce() {
    let reading = read(
      """
      {
        "tables": {"a": "x:{", "b": ["y:{id}", "z{a}*"]},
        "near": {"size": 5, "tll": "2s"},
        "near": {},
        "log": {"level": "${LEVEL}"}
      }
      """)
    #expect(reading.settings == nil)
    #expect(
      reading.diagnostics.map { "\($0.place?.line ?? 0):\($0.place?.column ?? 0) \($0.code) \($0.path)" } == [
        "2:22 bad-template tables.a", "2:47 bad-template tables.b[1]", "3:20 wrong-type near.size",
        "3:23 unknown-key near.tll", "4:3 duplicate-key near", "5:21 unset-variable log.level",
      ])
  }

  @Test("nearest words are near, and short words are near to nothing")
  func suggestions() {
    let words = ["level", "format", "ttl"]
    #expect(nearest(to: "levle", among: words) == "level")
    #expect(nearest(to: "FORMAT", among: words) == "format")
    #expect(nearest(to: "formta", among: words) == "format")
    #expect(nearest(to: "tl", among: words) == "ttl")
    #expect(nearest(to: "x", among: words) == nil)
    #expect(nearest(to: "size", among: words) == nil)
    #expect(nearest(to: "", among: words) == nil)
    #expect(nearest(to: String(repeating: "level", count: 100), among: words) == nil)
  }
}
