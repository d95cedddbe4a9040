import Glibc
import TestSupport

/// Which servers a row compares, by the names in the tables.
enum PeerName: String, CaseIterable {
  case nearside
  case redis = "redis-server"
  case memcached
  case nutcracker = "nutcracker + Redis"
  /// The same with `listen.busyPoll`.
  case busy = "nearside, busyPoll 50us"
  case echo = "C echo"
  case uring = "C echo, io_uring"
  /// Keys that Nearside relays.
  case relayed = "nearside, relayed"
  case relay = "C relay + Redis"
}

/// Servers that hold the same keys, started for some rows and ended behind them.
final class Stage {
  let folder: TemporaryFolder
  let redis: RedisServer
  private(set) var peers: [PeerName: Peer] = [:]
  private(set) var site: NearsideSite?
  /// The servers whose programs are not there.
  private(set) var missing: [PeerName] = []
  /// Where those that stand before Redis find it: the path of its Unix socket, or a port.
  private let upstream: String
  private let workload: Workload

  /// - Parameters:
  ///   - names: the servers that are needed; those whose program is missing are left out.
  ///   - workload: says which keys there are, and how long values are.
  ///   - tools: the folder of this program, where those of its own source lie.
  ///   - tcp: whether Redis is reached at a loopback port.
  init(_ names: [PeerName], _ workload: Workload, tools: String, tcp: Bool = false) throws {
    self.workload = workload
    folder = try TemporaryFolder()
    let port = tcp ? try Self.freePort() : 0
    redis = try RedisServer([
      "--maxclients", "8000", "--io-threads", "1", "--port", String(port), "--bind", "127.0.0.1",
    ])
    upstream = tcp ? String(port) : redis.socket
    let redisPID = redis.pid.map { [$0] } ?? []
    let stored = try Peer(
      "redis-server", tcp ? .loopback(port) : .unix(redis.socket), pids: redisPID, parts: [redis])
    try stored.fill(workload)
    for name in names {
      switch name {
      case .redis: peers[name] = stored
      case .nearside:
        let site = try NearsideSite(workload)
        self.site = site
        peers[name] = try site.peer()
      case .relayed:
        let url = tcp ? "redis://127.0.0.1:\(port)" : redis.url
        let site = try NearsideSite(Workload(keys: 1), redis: redis, redisURL: url)
        peers[name] = try Peer(
          name.rawValue, .unix(site.sidecar.socket), pids: site.pids, parts: [site, redis])
      case .memcached: peers[name] = try memcached()
      case .nutcracker: peers[name] = try nutcracker()
      case .busy:
        peers[name] = try NearsideSite(workload, listen: [#""busyPoll": "50us""#]).peer(name.rawValue)
      case .echo: peers[name] = try echo(name, ["\(tools)/bench-echo"])
      case .uring: peers[name] = try echo(name, ["\(tools)/bench-echo", "--uring"])
      case .relay:
        let socket = folder.file("relay.sock")
        let process = try ChildProcess(["\(tools)/bench-relay", socket, upstream])
        try Self.wait(.unix(socket), process)
        peers[name] = try Peer(
          name.rawValue, .unix(socket), pids: [process.pid], parts: [process, redis])
      }
      if peers[name] == nil { missing.append(name) }
    }
  }

  /// Whether this kernel lets programs use io_uring; if not, the report says why.
  static func allowsURing(_ tools: String, into report: inout Report) throws -> Bool {
    let done = try run(["\(tools)/bench-echo", "--uring"])
    if done.exit != .code(0) { report.note("io_uring was not measured: \(done.errors)") }
    return done.exit == .code(0)
  }

  private func memcached() throws -> Peer? {
    guard Peer.has("memcached") else { return nil }
    let socket = folder.file("m.sock")
    let bytes = workload.keys * (workload.valueBytes + 200) / 1_000_000 + 256
    let process = try ChildProcess([
      "memcached", "-u", "root", "-s", socket, "-t", "1", "-c", "8000", "-m", String(bytes),
    ])
    try Self.wait(.unix(socket), process)
    let peer = try Peer(
      "memcached", .unix(socket), .memcached, pids: [process.pid], parts: [process])
    try peer.fill(workload)
    return peer
  }

  /// The proxy's cost, without Redis's behind it.
  private func nutcracker() throws -> Peer? {
    guard Peer.has("nutcracker") else { return nil }
    let socket = folder.file("n.sock")
    let configuration = """
      bench:
        listen: \(socket) 0600
        hash: fnv1a_64
        distribution: ketama
        redis: true
        timeout: 10000
        server_connections: 1
        servers:
         - \(upstream.hasPrefix("/") ? upstream : "127.0.0.1:" + upstream):1 server
      """
    let file = try folder.write(configuration + "\n", to: "nutcracker.yml")
    let process = try ChildProcess(
      ["nutcracker", "-c", file, "-s", String(try Self.freePort()), "-a", "127.0.0.1", "-v", "0"],
      log: folder.file("nutcracker.log"))
    try Self.wait(.unix(socket), process)
    return try Peer(
      "nutcracker + Redis", .unix(socket), pids: [process.pid], parts: [process, redis])
  }

  private func echo(_ name: PeerName, _ program: [String]) throws -> Peer {
    let requests = Requests(workload, .resp, prefix: Peer.plainPrefix)
    let lengths = Set(
      (1..<min(requests.starts.count, 1000)).map { requests.starts[$0] - requests.starts[$0 - 1] })
    guard lengths.count == 1, let length = lengths.first else {
      throw HarnessError("the echo server can only take requests of one length")
    }
    var reply = "$\(workload.valueBytes)\r\n\(Operation.value(workload.valueBytes))\r\n"
    if case .mget(let count) = workload.kind {
      reply = "*\(count)\r\n" + String(repeating: reply, count: count)
    }
    let socket = folder.file(name == .uring ? "u.sock" : "e.sock")
    let process = try ChildProcess(
      program + [socket, String(length), try folder.write(reply, to: "reply")])
    try Self.wait(.unix(socket), process)
    return try Peer(
      name.rawValue, .unix(socket), .fixed(reply.utf8.count), pids: [process.pid], parts: [process]
    )
  }

  private static func wait(_ endpoint: Endpoint, _ process: ChildProcess) throws {
    try eventually("\(process.name) takes connections") {
      guard process.isRunning else {
        throw HarnessError("\(process.name) ended: \(process.output)\(process.errors)")
      }
      guard let descriptor = try? endpoint.connect() else { return false }
      close(descriptor)
      return true
    }
  }

  private static func freePort() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    return try withUnsafeMutablePointer(to: &address) { address in
      try address.withMemoryRebound(to: sockaddr.self, capacity: 1) { general in
        guard bind(descriptor, general, length) == 0, getsockname(descriptor, general, &length) == 0 else {
          throw HarnessError("no free port on 127.0.0.1")
        }
      }
      return UInt16(bigEndian: address.pointee.sin_port)
    }
  }
}
