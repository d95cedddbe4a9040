import Foundation
import Glibc
import TestSupport
import Testing

/// Clients and the sidecar are processes of their own: this one and its child.
@Suite("Many clients, slow ones, and ones that go away", .serialized, .timeLimit(.minutes(10)))
struct ManyClientsTests {
  private static let isDeep = ProcessInfo.processInfo.environment["NEARSIDE_TEST_ALL"] != nil

  private func descriptors(_ sidecar: Sidecar) -> Int {
    (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(sidecar.pid ?? 0)/fd").count) ?? 0
  }

  /// Anonymous memory in KiB: what the process has asked for and touched.
  private func memory(_ sidecar: Sidecar) -> Int {
    let text = readFile("/proc/\(sidecar.pid ?? 0)/status") ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0
  }

  /// Lets this process have as many descriptors as it may.
  private func raiseLimit() {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  @Test(
    "10,000 clients are connected at a time, each is answered, and one more is told that there are too many")
  func tenThousand() throws {
    raiseLimit()
    let world = try World(redis: false)
    let sidecar = try world.sidecar()
    try eventually("the harness's own clients are gone") { descriptors(sidecar) < 40 }
    let before = descriptors(sidecar)
    var clients: [RESPClient] = []
    clients.reserveCapacity(10_000)
    for _ in 0..<10_000 { clients.append(try sidecar.client()) }
    for round in 0..<2 {
      for (index, client) in clients.enumerated() { try client.send("ECHO", "\(round):\(index)") }
      for (index, client) in clients.enumerated() {
        guard try client.receive() == .bulk("\(round):\(index)") else {
          Issue.record("another answer in round \(round)")
          return
        }
      }
    }
    let next = try sidecar.client()
    #expect(try next.receive() == .error("ERR max number of clients reached"))
    // One in three has gone in the middle of a command.
    for index in clients.indices where index % 3 == 0 {
      try clients[index].send(raw: "*2\r\n$3\r\nGET\r\n$10\r\nab")
    }
    clients.removeAll()
    try eventually("all descriptors are closed") { descriptors(sidecar) <= before + 1 }
    #expect(try sidecar.client().call("PING") == .simple("PONG"))
  }

  @Test("Nothing is left of clients that connect, ask, and go, some of them in the middle of a pipeline")
  func comeAndGo() throws {
    let world = try World()
    let sidecar = try world.sidecar(tcp: true)
    let key = world.key("user:1")
    try warm(key, "v", sidecar)
    let pipeline =
      Array(repeatElement(RESPClient.encode(["GET", key]), count: 100).joined())
      + RESPClient.encode(["GET", "elsewhere"]) + RESPClient.encode(["BLPOP", "nothing", "0"])
    func round(_ count: Int) throws {
      for index in 0..<count {
        let client = try sidecar.client()
        switch index % 100 {
        case 0: try client.send(raw: pipeline)  // It goes without having read anything, while it blocks.
        case 1:
          try client.send(
            raw: "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n" + String(repeating: "x", count: 200_000))
        case 2:
          try client.call("SUBSCRIBE", "a")
        case 3:
          try client.send(raw: "*1\r\n!")
        default:
          guard try client.call("GET", key) == "v" else { throw HarnessError("another answer") }
        }
      }
      try eventually("all have gone") { try sidecar.count("clients") == 1 }
    }
    // Tables, pools and allocators have grown to what they need after the first round.
    let (first, rounds) = (5_000, Self.isDeep ? 1_000_000 : 45_000)
    try round(first)
    let (descriptorsBefore, memoryBefore) = (descriptors(sidecar), memory(sidecar))
    try round(rounds)
    // Idle connections to Redis are kept for a while, at most 16 of each kind.
    #expect(descriptors(sidecar) <= descriptorsBefore + 34)
    #expect(
      memory(sidecar) < memoryBefore + 16 * 1024, "KiB; before \(memoryBefore), after \(memory(sidecar))")
  }

  @Test("A client that sends or reads one byte at a time is served, and so are all others meanwhile")
  func byteByByte() throws {
    let world = try World()
    let sidecar = try world.sidecar(tcp: true)
    let key = world.key("user:1")
    try warm(key, String(repeating: "v", count: 300), sidecar)
    let places: [RESPClient] = try [sidecar.client(), RESPClient(try sidecar.loopback())]
    let other = try sidecar.client(timeout: .seconds(2))
    for slow in places {
      let bytes =
        RESPClient.encode(["GET", key]) + RESPClient.encode(["SET", "k", "v"]) + Array("PING\r\n".utf8)
      for byte in bytes {
        try slow.send(raw: [byte])
        #expect(try other.call("PING") == .simple("PONG"))
      }
      var answer: [UInt8] = []
      let expected = Array("$300\r\n\(String(repeating: "v", count: 300))\r\n+OK\r\n+PONG\r\n".utf8)
      while answer.count < expected.count {
        answer += try slow.receive(bytes: 1)
        if answer.count % 50 == 0 { #expect(try other.call("GET", key).text?.count == 300) }
      }
      #expect(answer == expected)
    }
  }
}
