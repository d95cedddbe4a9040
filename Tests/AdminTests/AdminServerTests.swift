import Admin
import Glibc
import Metrics
import Synchronization
import TestSupport
import Testing

/// The endpoint in front of a sidecar that says what a test wants.
@Suite struct AdminServerTests {
  final class Fake: AdminSource {
    let answers: Bool
    /// A closure by itself would be wrapped once more at each look into the mutex.
    struct Hearer: Sendable { let hear: @Sendable ([TapEvent]) -> Void }
    let heard = Mutex<Hearer?>(nil)
    let orders = Mutex<[InvalidationOrder]>([])

    init(answers: Bool = true) { self.answers = answers }

    func whetherAlive(_ answer: @escaping @Sendable () -> Void) { if answers { answer() } }
    func report(_ answer: @escaping @Sendable (SidecarReport) -> Void) {
      guard answers else { return }
      var report = HealthTests.sound()
      report.loop.hotKeys = [HotKeys.Entry(key: Array("shop:user:1".utf8), share: 0.25)]
      answer(report)
    }
    func look(_ key: [UInt8], showsValue: Bool, _ answer: @escaping @Sendable (KeyReport) -> Void) {
      var report = KeyReport(key: key)
      if showsValue { report.value = [0xff, 1] }
      answer(report)
    }
    func tap(_ hear: (@Sendable ([TapEvent]) -> Void)?) {
      heard.withLock { $0 = hear.map { Hearer(hear: $0) } }
    }
    func invalidate(
      _ order: InvalidationOrder, _ answer: @escaping @Sendable (InvalidationAnswer) -> Void
    ) {
      orders.withLock { $0.append(order) }
      answer(.done(2))
    }
    func reload(_ answer: @escaping @Sendable (ReloadAnswer) -> Void) {
      answer(.reloaded(changed: ["log.level"], needRestart: ["listen"]))
    }
    var configuration: JSONText { ["schema": 1] }
    var version: String { "1" }

    func tell(_ events: [TapEvent]) { heard.withLock { $0 }?.hear(events) }
    var isHeard: Bool { heard.withLock { $0 != nil } }
  }

  /// An endpoint on both kinds of places, until it is let go.
  final class Endpoint {
    let folder: TemporaryFolder
    let server: AdminServer
    let unix: HTTPClient
    let tcp: HTTPClient

    init(_ source: any AdminSource, admits: @escaping @Sendable (UInt32, UInt32) -> Bool = { _, _ in true })
      throws
    {
      folder = try TemporaryFolder()
      let path = folder.file("a")
      let (descriptor, place) = try SocketPlace.unix(path).listen()
      server = try AdminServer(
        socket: (descriptor, path), tcp: ("127.0.0.1", 0), source: source, admits: admits)
      unix = HTTPClient(place)
      let port = server.places.tcp?.split(separator: ":").last.flatMap { UInt16($0) }
      tcp = HTTPClient(.loopback(try #require(port)))
    }

    deinit { server.stop() }
  }

  @Test("a loop that does not answer makes /livez, /readyz and /status say so after 2 s")
  func silence() throws {
    let endpoint = try Endpoint(Fake(answers: false))
    let clock = ContinuousClock()
    for path in ["/livez", "/readyz", "/status", "/metrics"] {
      let began = clock.now
      let answer = try endpoint.unix.get(path)
      #expect(answer.status == 503)
      #expect(answer.body == "the event loop has not answered in time\n")
      #expect(clock.now - began >= .milliseconds(1900))
    }
  }

  @Test("the TCP address is read-only, and shows no keys")
  func readOnly() throws {
    let fake = Fake()
    let endpoint = try Endpoint(fake)
    #expect(try endpoint.tcp.get("/livez").status == 200)
    #expect(try endpoint.tcp.request("POST", "/reload").status == 403)
    #expect(try endpoint.tcp.request("POST", "/invalidate", body: "all").status == 403)
    let fromAPage = ["Origin": "http://127.0.0.1:9847"]
    #expect(
      try endpoint.unix.request("POST", "/invalidate", headers: fromAPage, body: "all").status == 403)
    #expect(fake.orders.withLock { $0.isEmpty })
    let stream = try endpoint.tcp.stream("/tail")
    try eventually("somebody listens") { fake.isHeard }
    fake.tell([Self.event("secret")])
    let data = try stream.nextEvent().data
    #expect(data.contains(#""keys":[]"#))
    #expect(!data.contains("secret"))
  }

  @Test("what there is of a key is told on the Unix socket only, and its value to no web page")
  func looks() throws {
    let endpoint = try Endpoint(Fake())
    #expect(try endpoint.tcp.get("/get?key=shop%3Auser").status == 403)
    #expect(try endpoint.tcp.request("POST", "/get?key=shop%3Auser").status == 403)
    let facts = try endpoint.unix.get("/get?key=shop%3Auser+1")
    #expect(facts.status == 200)
    #expect(facts.body.contains(#""key":"shop:user 1","governed":false"#), "\(facts.body)")
    #expect(!facts.body.contains("value"))
    let value = try endpoint.unix.request("POST", "/get?key=k")
    #expect(value.body.contains(#""value_hex":"ff01""#), "\(value.body)")
    let fromAPage = ["Origin": "http://127.0.0.1:9847"]
    #expect(try endpoint.unix.request("POST", "/get?key=k", headers: fromAPage).status == 403)
    #expect(try endpoint.unix.get("/get").status == 400)
    #expect(try endpoint.unix.get("/get?key=").status == 400)
  }

  @Test("the keys that are read most are told on the Unix socket only, and only to whoever asks for keys")
  func hotKeys() throws {
    let endpoint = try Endpoint(Fake())
    #expect(
      try endpoint.unix.get("/status?keys").body.contains(#""hot_keys":[{"key":"shop:user:1","share":0.25}]"#)
    )
    for answer in [try endpoint.unix.get("/status"), try endpoint.tcp.get("/status?keys")] {
      #expect(answer.status == 200 && !answer.body.contains("user:1"), "\(answer.body)")
    }
  }

  @Test("POST /reload and /invalidate on the Unix socket, and what they take")
  func acts() throws {
    let fake = Fake()
    let endpoint = try Endpoint(fake)
    let reloaded = try endpoint.unix.request("POST", "/reload")
    #expect(reloaded.body.contains(#""changed":["log.level"],"needs_restart":["listen"]"#))
    #expect(
      try endpoint.unix.request("POST", "/invalidate", body: "key a b\r\ntag t\nprefix p:\n").body
        == #"{"schema":1,"removed":2}"# + "\n")
    #expect(
      fake.orders.withLock { $0 } == [
        .some(keys: [Array("a b".utf8)], prefixes: [Array("p:".utf8)], tags: [Array("t".utf8)])
      ])
    for body in ["", "nonsense", "all\nkey a", "key"] {
      #expect(try endpoint.unix.request("POST", "/invalidate", body: body).status == 400, "\(body)")
    }
    #expect(try endpoint.unix.get("/reload").status == 405)
  }

  @Test("who is not admitted to the applications' socket gets no answer here either")
  func admission() throws {
    let endpoint = try Endpoint(Fake(), admits: { user, _ in user != getuid() })
    #expect(throws: (any Error).self) { try endpoint.unix.get("/livez") }
    #expect(try endpoint.tcp.get("/livez").status == 200)
  }

  static func event(_ key: String, table: String = "public.users") -> TapEvent {
    var event = InvalidationEvent(time: WallTime(microseconds: 0), table: table, source: .wal)
    event.keys = [key]
    event.keyCount = 1
    event.delay = 1_500_000
    return .invalidation(event)
  }

  @Test(
    "whoever watches hears in order, only the table that it asked for, and nobody is heard once it has gone")
  func tail() throws {
    let fake = Fake()
    let endpoint = try Endpoint(fake)
    #expect(!fake.isHeard)
    do {
      let stream = try endpoint.unix.stream("/tail?table=public.users")
      try eventually("somebody listens") { fake.isHeard }
      fake.tell([Self.event("1"), Self.event("2", table: "public.orders"), Self.event("3")])
      fake.tell([.generation(WallTime(microseconds: 0), id: "00ff", reason: "it was asked for")])
      #expect(try stream.nextEvent().data.contains(#""keys":["1"],"key_count":1,"#))
      #expect(try stream.nextEvent().data.contains(#""keys":["3"]"#))
      let last = try stream.nextEvent()
      #expect(last.name == "generation")
      #expect(last.data.contains(#""generation":"00ff","reason":"it was asked for""#))
    }
    try eventually("nobody listens any more") {
      fake.tell([Self.event("x")])
      return !fake.isHeard
    }
  }

  @Test("who does not read is told how much was dropped, and everything else arrives in order")
  func slow() throws {
    let fake = Fake()
    let endpoint = try Endpoint(fake)
    let stream = try endpoint.unix.stream("/tail")
    try eventually("somebody listens") { fake.isHeard }
    let total = 60_000
    let padding = String(repeating: "x", count: 200)
    for number in 0..<total { fake.tell([Self.event("\(number) \(padding)")]) }
    var (got, lost, previous) = (0, 0, -1)
    while got + lost < total {
      let event = try stream.nextEvent()
      if event.name == "dropped" {
        lost += Int(event.data.filter(\.isNumber)) ?? 0
      } else if let start = event.data.firstRange(of: #""keys":[""#) {
        let number = Int(event.data[start.upperBound...].prefix { $0 != " " }) ?? -1
        #expect(number > previous)
        previous = number
        got += 1
      }
    }
    #expect(got + lost == total)
    #expect(lost > 0)
  }

  @Test("the page names no other place")
  func page() throws {
    let endpoint = try Endpoint(Fake())
    let page = try endpoint.unix.get("/")
    let text = page.body.replacing("http://www.w3.org/2000/svg", with: "")
    for outside in ["http:", "https:", "//cdn", "@import", "src=", "url("] {
      #expect(!text.contains(outside), "\(outside)")
    }
    let policy = page.headers["content-security-policy"] ?? ""
    #expect(policy.hasPrefix("default-src 'none'; "))
    #expect(policy.contains("connect-src 'self'"))
  }
}
