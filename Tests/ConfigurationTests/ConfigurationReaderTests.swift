import Testing

@testable import Configuration

@Suite("What a configuration means")
struct ConfigurationReaderTests {
  private func settings(
    _ text: String, environment: [String: String] = [:], files: [String: String] = [:],
    location: SourceLocation = #_sourceLocation
  ) throws -> Settings {
    let reading = read(text, environment: environment, files: files)
    #expect(summary(reading.diagnostics) == [], sourceLocation: location)
    return try #require(reading.settings, sourceLocation: location)
  }

  @Test("the smallest file works with two environment variables")
  func smallest() throws {
    let settings = try settings(
      #"{ "namespace": "shop", "tables": { "users": "user:{id}" } }"#,
      environment: [
        "DATABASE_URL": "postgresql://db/shop", "REDIS_URL": "redis://cache:6380/2",
        "RUNTIME_DIRECTORY": "/run/a:/run/b",
      ])
    #expect(settings.namespace == "shop")
    #expect(settings.keyPrefix == "shop:")
    #expect(settings.postgres.url.exposed == "postgresql://db/shop")
    #expect(settings.postgres.password == nil)
    #expect(settings.postgres.publication == "nearside_shop")
    #expect(
      settings.postgres.slot == SlotSettings(name: "nearside_shop", mode: .durable, maxRetained: 10 << 30))
    let redis = try #require(settings.redis)
    #expect(redis.endpoint == .tcp(host: "cache", port: 6380))
    #expect(redis.database == 2)
    #expect(redis.timeout == 5_000_000_000)
    #expect(settings.listen == ListenSettings(path: "/run/a/redis.sock", mode: 0o660, group: nil))
    #expect(settings.near == NearSettings(size: 256 << 20, maxEntry: 512 << 10, ttl: nil))
    #expect(settings.staleness == StalenessSettings(bound: 2_000_000_000, beyond: .bypass))
    #expect(settings.plainSet == PlainSetSettings(mode: .window, window: 10_000_000_000))
    #expect(settings.journal == JournalSettings(keep: 60_000_000_000, size: 16 << 20))
    #expect(settings.log == LogSettings(level: .info, format: .auto))
    let rule = try #require(settings.tables.first)
    #expect(rule.qualifiedName == "public.users")
    #expect(rule.keys.map(\.text) == ["user:{id}"])
    #expect(rule.keys[0].place == SourcePlace(line: 1, column: 45, length: 11))
    #expect(rule.columns == nil)
    #expect(rule.operations == Set(RowOperation.allCases))
    #expect(rule.place == SourcePlace(line: 1, column: 36, length: 7))
    #expect(settings.caches.isEmpty)
  }

  @Test("without Redis the slot is temporary, and nothing else is needed")
  func embedded() throws {
    let settings = try settings(
      #"{"tables": {"users": "user:{id}"}}"#, environment: ["REDIS_URL": "", "DATABASE_URL": ""])
    #expect(settings.namespace == nil)
    #expect(settings.keyPrefix == "")
    #expect(settings.redis == nil)
    #expect(settings.postgres.url.exposed == "")
    #expect(settings.postgres.slot == SlotSettings(name: "nearside", mode: .temporary, maxRetained: 10 << 30))
    #expect(settings.postgres.publication == "nearside")
    #expect(settings.listen.path == "/run/nearside/redis.sock")
  }

  @Test("every option takes effect")
  func everything() throws {
    let settings = try settings(
      #"""
      {"$schema": "./$x", "namespace": "shop",
       "postgres": {"url": "host=/run/pg dbname=shop", "password": "a",
         "publication": "p_1", "slot": {"name": "s_1", "mode": "durable"}},
       "redis": {"url": "unix:///run/r.sock?db=3", "password": "b", "timeout": "250ms"},
       "listen": {"socket": "n.sock", "mode": "0600", "group": "g", "tcp": "[::1]:0",
         "busyPoll": "50us"},
       "near": {"size": "1GB", "maxEntry": "1KB", "ttl": "1h30m"},
       "staleness": {"bound": "1.5s", "beyond": "fail"},
       "plainSet": "aged", "plainSetWindow": "20s",
       "journal": {"keep": "2m", "size": "1MiB"}, "log": {"level": "debug", "format": "json"},
       "tables": {"a": "a:{id}", "s.b": ["b:{id}", "{x}"],
         "c": {"keys": "c:{x|lower}", "columns": ["x", "y"], "on": ["update", "delete"]}},
       "caches": {"a:{i}": {"near": false}, "b:{id}": {"near": {"ttl": "5s"}, "plainSet": "off"},
         "c:{x}": {"near": {}, "plainSetWindow": "1s"}, "{x}": {}}}
      """#)
    #expect(settings.postgres.url.exposed == "host=/run/pg dbname=shop")
    #expect(settings.postgres.password?.exposed == "a")
    #expect(settings.postgres.publication == "p_1")
    #expect(settings.postgres.slot == SlotSettings(name: "s_1", mode: .durable, maxRetained: 10 << 30))
    let redis = try #require(settings.redis)
    #expect(redis.endpoint == .unix(path: "/run/r.sock"))
    #expect(redis.database == 3)
    #expect(redis.password?.exposed == "b")
    #expect(redis.timeout == 250_000_000)
    #expect(
      settings.listen
        == ListenSettings(
          path: "n.sock", mode: 0o600, group: "g", tcp: LoopbackAddress(host: "::1", port: 0),
          busyPoll: 50_000))
    #expect(settings.near == NearSettings(size: 1_000_000_000, maxEntry: 1_000, ttl: 5_400_000_000_000))
    #expect(settings.staleness == StalenessSettings(bound: 1_500_000_000, beyond: .fail))
    #expect(settings.plainSet == PlainSetSettings(mode: .aged, window: 20_000_000_000))
    #expect(settings.journal == JournalSettings(keep: 120_000_000_000, size: 1 << 20))
    #expect(settings.log == LogSettings(level: .debug, format: .json))
    #expect(settings.tables.map(\.qualifiedName) == ["public.a", "s.b", "public.c"])
    #expect(settings.tables[1].keys.map(\.text) == ["b:{id}", "{x}"])
    #expect(settings.tables[2].columns == ["x", "y"])
    #expect(settings.tables[2].operations == [.update, .delete])
    #expect(settings.caches.map(\.template.text) == ["a:{i}", "b:{id}", "c:{x}", "{x}"])
    #expect(
      settings.caches.map { $0.near?.ttl } == [nil, 5_000_000_000, 5_400_000_000_000, 5_400_000_000_000])
    #expect(settings.caches.map { $0.near == nil } == [true, false, false, false])
    #expect(settings.caches.map(\.plainSet.mode) == [.aged, .off, .aged, .aged])
    #expect(settings.caches[2].plainSet.window == 1_000_000_000)
    #expect(settings.caches[3].plainSet.window == 20_000_000_000)
  }

  @Test("the short forms: a text for postgres, redis and listen")
  func shortForms() throws {
    let settings = try settings(
      #"""
      {"namespace": "s", "postgres": "postgres://h/d", "redis": "redis://h", "listen": "/tmp/x.sock",
       "tables": {"t": "{id}"}}
      """#,
      environment: ["DATABASE_URL": "postgresql://other", "REDIS_URL": "redis://other"])
    #expect(settings.postgres.url.exposed == "postgres://h/d")
    #expect(settings.redis?.endpoint == .tcp(host: "h", port: 6379))
    #expect(settings.listen.path == "/tmp/x.sock")
  }

  @Test("rediss:// means TLS, with what is said of it; an empty text says nothing")
  func tls() throws {
    func tls(_ redis: String, _ environment: [String: String] = [:]) throws -> TLSSettings? {
      try settings(
        "{\"namespace\": \"s\", \"redis\": \(redis), \"tables\": {\"t\": \"{id}\"}}", environment: environment
      ).redis?.tls
    }
    #expect(try tls(#""rediss://h:6380""#) == TLSSettings())
    #expect(try tls(#""redis://h""#) == nil)
    #expect(try tls(#"{"tls": {"ca": "/ca"}}"#, ["REDIS_URL": "rediss://h"]) == TLSSettings(ca: "/ca"))
    let all =
      #"{"url": "rediss://h", "tls": {"ca": "/a", "certificate": "/b", "key": "/c", "serverName": "d", "verify": true}}"#
    #expect(try tls(all) == TLSSettings(ca: "/a", certificate: "/b", key: "/c", serverName: "d"))
    let none = #"{"tls": {"ca": "", "certificate": "", "key": "", "serverName": ""}}"#
    #expect(try tls(none, ["REDIS_URL": "rediss://h"]) == TLSSettings())
    #expect(try tls(none, ["REDIS_URL": "redis://h"]) == nil)
    // On a socket of this machine there is nothing to encrypt.
    #expect(try tls(#"{"url": "unix:///r.sock", "tls": {"ca": "/ca"}}"#) == nil)
  }

  @Test("a section without a url takes it from the environment")
  func urlsFromEnvironment() throws {
    let settings = try settings(
      #"{"namespace":"s","postgres":{"slot":{}},"redis":{"timeout":"1s","password":"b"},"tables":{"t":"{id}"}}"#,
      environment: ["DATABASE_URL": "postgresql://e", "REDIS_URL": "redis://u:a@e"])
    #expect(settings.postgres.url.exposed == "postgresql://e")
    #expect(settings.redis?.endpoint == .tcp(host: "e", port: 6379))
    #expect(settings.redis?.user == "u")
    #expect(settings.redis?.password?.exposed == "b")
  }

  @Test("references are replaced in every text, once")
  func references() throws {
    let settings = try settings(
      #"""
      {"namespace": "${NS}", "postgres": {"password": "${file:/run/pw}"},
       "redis": {"url": "redis://${HOST:-fallback}:${PORT:?needed}", "password": "a$$b${cred:redis}c"},
       "listen": "/tmp/${EMPTY:-x}${UNSET:-}.sock", "near": {"ttl": "${TTL:-7s}"},
       "tables": {"${SCHEMA}.t": ["${PREFIX}:{id}", "$$:{id}"]}, "caches": {"${PREFIX}:{id}": {}}}
      """#,
      environment: [
        "NS": "shop", "PORT": "1234", "EMPTY": "", "SCHEMA": "s", "PREFIX": "p",
        "CREDENTIALS_DIRECTORY": "/creds",
      ],
      files: ["/run/pw": "${NS}\r\n", "/creds/redis": "é\n\n"])
    #expect(settings.namespace == "shop")
    #expect(settings.postgres.password?.exposed == "${NS}")
    #expect(settings.redis?.endpoint == .tcp(host: "fallback", port: 1234))
    #expect(settings.redis?.password?.exposed == "a$bé\nc")
    #expect(settings.listen.path == "/tmp/x.sock")
    #expect(settings.near.ttl == 7_000_000_000)
    #expect(settings.tables[0].qualifiedName == "s.t")
    #expect(settings.tables[0].keys.map(\.text) == ["p:{id}", "$:{id}"])
    #expect(settings.caches[0].template.text == "p:{id}")
  }

  @Test("a column's place is right behind an escape and a reference")
  func placeBehindReference() throws {
    let settings = try settings(
      #"{"tables": {"t": "\u0061${P}b{id}"}}"#, environment: ["P": "long prefix"])
    #expect(
      settings.tables[0].keys[0].parts == [
        .literal("along prefixb"),
        .column(name: "id", filters: [], place: SourcePlace(line: 1, column: 31, length: 2)),
      ])
  }

  @Test("a file named .jsonc may hold comments")
  func comments() {
    let text = "{ // the shop\n \"tables\": {\"t\": \"{id}\",}, }"
    #expect(read(text, file: "a.jsonc").settings != nil)
    #expect(read(text, file: "a.json").settings == nil)
  }

  @Test(
    "a Redis URL is taken apart",
    arguments: [
      ("redis://h", "tcp h 6379 - - 0"), ("REDIS://h/", "tcp h 6379 - - 0"),
      ("redis://u:p@h:1/15", "tcp h 1 u p 15"), ("redis://:p%40%3a%2F@h", "tcp h 6379 - p@:/ 0"),
      ("redis://u@h", "tcp h 6379 u - 0"), ("redis://:a@b@h", "tcp h 6379 - a@b 0"),
      ("redis://[::1]:6390/1", "tcp ::1 6390 - - 1"), ("redis://[fe80::1]", "tcp fe80::1 6379 - - 0"),
      ("unix:///a%20b/r.sock", "unix /a b/r.sock - - 0"), ("unix:///r?db=2", "unix /r - - 2"),
      ("unix://u:p@/r.sock", "unix /r.sock u p 0"),
    ])
  func redisURL(url: String, expected: String) throws {
    let parsed = try RedisURL.parse(url)
    let endpoint =
      switch parsed.endpoint {
      case .tcp(let host, let port): "tcp \(host) \(port)"
      case .unix(let path): "unix \(path)"
      }
    #expect(
      "\(endpoint) \(parsed.user ?? "-") \(parsed.password?.exposed ?? "-") \(parsed.database)" == expected)
  }

  @Test(
    "durations and sizes are exact",
    arguments: [
      ("1us", 1_000), ("250ms", 250_000_000), ("2s", 2_000_000_000), ("1h30m", 5_400_000_000_000),
      ("1d", 86_400_000_000_000), ("0.1s", 100_000_000), ("1.5h", 5_400_000_000_000),
      ("0.123456789s", 123_456_789), ("0.0001us", 0), ("18446744073s", 18_446_744_073_000_000_000),
    ] as [(String, UInt64)])
  func durations(text: String, nanoseconds: UInt64) {
    #expect(Units.duration(text) == nanoseconds)
  }

  @Test(
    "what is no duration is refused",
    arguments: [
      "", "2", "2 s", "2sec", "s", "-1s", "1.s", ".5s", "1s ", "1s2", "18446744074s", "1e3s", "2S",
      "99999999999999999999s", "0.1234567890s",
    ])
  func noDuration(text: String) { #expect(Units.duration(text) == nil) }

  @Test(
    "sizes are binary with an i and decimal without",
    arguments: [("1B", 1), ("1.5KiB", 1536), ("1KB", 1000), ("256MiB", 256 << 20), ("2GB", 2_000_000_000)])
  func sizes(text: String, bytes: Int) { #expect(Units.size(text) == bytes) }

  @Test(
    "what is no size is refused",
    arguments: ["", "1", "1 MiB", "1mb", "1K", "1MiB1KiB", "9999999999GiB", "MiB"])
  func noSize(text: String) { #expect(Units.size(text) == nil) }
}

@Suite("The hash of a mapping")
struct MappingHashTests {
  private func hash(_ namespace: String, _ tables: String) throws -> String {
    let redis = namespace.isEmpty ? "" : "\"namespace\": \"\(namespace)\","
    return try #require(read("{\(redis) \"tables\": {\(tables)}}").settings).mappingHash
  }

  @Test("tags count, and with them every cache, in the order of the file")
  func tags() throws {
    func hash(_ tags: String, _ caches: String) throws -> String {
      try #require(
        read("{\"tables\": {\"a\": {\"keys\": \"x\", \"tags\": [\(tags)]}}, \"caches\": {\(caches)}}")
          .settings
      )
      .mappingHash
    }
    let tagged = #""k:{x}": {"tags": ["t:{x}", "u"]}"#
    let hashes = [
      try hash(#""t:{id}""#, tagged), try hash(#""u""#, tagged), try hash(#""t:{id}", "u""#, tagged),
      try hash(#""u""#, #""k:{x}": {"tags": "u"}"#), try hash(#""u""#, tagged + #", "k:1": {}"#),
      try hash(#""u""#, #""k:1": {}, "# + tagged), try hash(#""u""#, ""),
    ]
    #expect(Set(hashes).count == hashes.count)
    #expect(try hash(#""u""#, "") == hash(#""u""#, #""k:1": {}"#))
  }

  @Test("order, places and what does not decide keys do not matter")
  func same() throws {
    let one = try hash("s", #""a": ["x:{id}", "y:{id|lower}"], "b": {"keys": ["z"], "columns": ["c", "d"]}"#)
    let two = try hash(
      "s",
      """
      "public.b": {"on": ["truncate", "delete", "update", "insert"], "columns": ["d", "c"],
        "keys": "z"},
      "a": {"keys": ["y:{id|lower}", "x:{id}"]}
      """)
    #expect(one == two)
    #expect(one.utf8.count == 16)
    #expect(one == one.lowercased())
    // The value itself is a promise too: sidecars of two versions compare theirs.
    #expect(one == "386578bb58b2cc8a")
  }

  @Test("whatever decides keys does matter")
  func different() throws {
    let hashes = [
      try hash("", #""a": "x:{id}""#), try hash("s", #""a": "x:{id}""#), try hash("t", #""a": "x:{id}""#),
      try hash("s", #""b": "x:{id}""#), try hash("s", #""c.a": "x:{id}""#), try hash("s", #""a": "y:{id}""#),
      try hash("s", #""a": "x:{ie}""#), try hash("s", #""a": "x:{id|lower}""#),
      try hash("s", #""a": "x:{id|urlencode}""#), try hash("s", #""a": "x:{id|lower|urlencode}""#),
      try hash("s", #""a": ["x:{id}", "y"]"#), try hash("s", #""a": ["x:{id}y"]"#),
      try hash("s", #""a": {"keys": "x:{id}", "columns": ["id"]}"#),
      try hash("s", #""a": {"keys": "x:{id}", "columns": ["id", "b"]}"#),
      try hash("s", #""a": {"keys": "x:{id}", "on": ["update"]}"#),
      try hash("s", #""a": "x:{id}", "b": "x:{id}""#), try hash("s", #""a": "x:id""#),
    ]
    #expect(Set(hashes).count == hashes.count)
  }
}
