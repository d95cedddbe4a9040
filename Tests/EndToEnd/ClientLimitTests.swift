import Glibc
import TestSupport
import Testing

@Suite("What clients may use", .timeLimit(.minutes(3)))
struct ClientLimitTests {
  @Test("One client too many is told so in Redis's words, and a place that becomes free is taken")
  func most() throws {
    let world = try World(options: [#""clients": {"max": 3}"#], redis: false)
    let sidecar = try world.sidecar()
    let first = try sidecar.client()
    #expect(try first.call("CONFIG", "GET", "maxclients") == .array(["maxclients", "3"]))
    var others = try [sidecar.client(), sidecar.client()]
    for other in others { #expect(try other.call("PING") == .simple("PONG")) }
    let fourth = try sidecar.client()
    #expect(try fourth.receive() == .error("ERR max number of clients reached"))
    #expect(fourth.isClosed())
    others.removeLast()
    try eventually("a place is free") { try sidecar.client().call("PING") == .simple("PONG") }
  }

  @Test("A process that may not have the descriptors says how many clients it serves")
  func descriptors() throws {
    let world = try World(redis: false)
    let place = try TemporaryFolder()
    let file = try place.write(
      world.configuration.replacing(
        "{ ", with: #"{ "listen": "\#(place.file("n.sock"))", "#, maxReplacements: 1),
      to: "c.json")
    let script =
      "ulimit -n 300; exec setpriv --bounding-set=-all --inh-caps=-all "
      + "\(Sidecar.executable) run --config \(file)"
    let process = try ChildProcess(
      ["bash", "-c", script], environment: world.environment, directory: place.path, log: place.file("log"))
    defer { process.kill() }
    try eventually("it says so", within: .seconds(20)) {
      let log = readFile(place.file("log")) ?? ""
      return log.contains(
        "clients.max is 10000, but this process may have 300 file descriptors only, so at most 44")
    }
  }

  @Test("A client whose command outgrows the query buffer, or that says nothing for too long, is let go")
  func queryBufferAndIdle() throws {
    let world = try World(
      options: [#""clients": {"queryBuffer": "64KiB", "idle": "2s"}"#], redis: false)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    #expect(
      try client.call("CONFIG", "GET", "client-query-buffer-limit")
        == .array(["client-query-buffer-limit", "65536"]))
    #expect(try client.call("CONFIG", "GET", "timeout") == .array(["timeout", "2"]))
    let large = try sidecar.client()
    try? large.send(raw: "*2\r\n$4\r\nECHO\r\n$100000\r\n" + String(repeating: "x", count: 90_000))
    #expect(large.isClosed())
    #expect(try sidecar.count("clients_dropped") == 1)
    let busy = try sidecar.client()
    let clock = ContinuousClock()
    let start = clock.now
    #expect(client.isClosed())
    #expect(start.duration(to: clock.now) > .seconds(1))
    #expect(busy.isClosed())
  }

  @Test(
    "A subscriber that does not take its messages is let go at its hard limit, and at its soft limit after a while"
  )
  func outputBuffers() throws {
    let world = try World(
      options: [
        #""clients": {"outputBuffer": {"pubsub": {"hard": "8MiB", "soft": "1MiB", "softTime": "1s"}}}"#
      ])
    let sidecar = try world.sidecar()
    let redis = try #require(world.redis)
    #expect(
      try sidecar.client().call("CONFIG", "GET", "client-output-buffer-limit")
        == .array([
          "client-output-buffer-limit", "normal 1073741824 0 0 slave 0 0 0 pubsub 8388608 1048576 1",
        ]))
    let message = String(repeating: "m", count: 100_000)
    func publish(_ channel: String, _ count: Int) throws {
      let publisher = try redis.client()
      for _ in 0..<count { try publisher.call("PUBLISH", channel, message) }
    }
    let hard = try sidecar.client()
    try hard.call("SUBSCRIBE", "a")
    try publish("a", 150)
    try eventually("the hard limit ends it") { try sidecar.count("clients_dropped") == 1 }
    let soft = try sidecar.client()
    try soft.call("SUBSCRIBE", "b")
    try publish("b", 30)
    try eventually("the soft limit ends it") { try sidecar.count("clients_dropped") == 2 }
    let reader = try sidecar.client()
    try reader.call("SUBSCRIBE", "c")
    try publish("c", 5)
    for _ in 0..<5 { #expect(try reader.receive() == .array(["message", "c", .bulk(message)])) }
  }
}
