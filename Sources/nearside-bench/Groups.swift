import TestSupport

/// What can be measured by itself.
enum Group: String, CaseIterable {
  case face, sizes, clients, busy, loops, mixed, changes, relay, tail, apply, latency, eviction, cost, uring,
    huge

  /// One line of `--list`.
  var summary: String {
    switch self {
    case .face: "reads from memory: GET and MGET of 16, each at depth 1 and 16"
    case .sizes: "values from 16 B to 64 KiB"
    case .clients: "1 and 1000 connections, and keys of unequal popularity"
    case .busy: "one client that waits for each answer, with listen.busyPoll"
    case .loops: "reads by the number of threads that answer them"
    case .mixed: "nine reads to one SET"
    case .changes: "reads while no row, 1,000 and 20,000 rows a second change"
    case .relay: "commands that are passed on to Redis, over a Unix socket and over TCP"
    case .tail: "a backlog of 500,000 transactions, and a transaction of a million rows"
    case .apply: "keys deleted in Redis, beside DEL in pipelines"
    case .latency: "from a commit to what readers see, at 500 transactions a second and at full rate"
    case .eviction: "what the near cache keeps, beside LRU and W-TinyLFU, and its longest insert"
    case .cost: "start, memory, processor time when idle, size of the program"
    case .uring: "io_uring beside epoll, in a C server that does nothing else"
    case .huge: "a transaction of ten million rows; not part of --all"
    }
  }

  /// About how long it takes: what is set up before, and its rounds.
  func seconds(_ rounds: Rounds) -> Int {
    /// Of so many rows in all, each with so many servers.
    func time(_ setup: Int, _ rows: Int = 0, _ servers: Int = 0) -> Int {
      let each = min(0.3, rounds.seconds) + Double(rounds.count) * rounds.seconds
      return (rounds.isShort ? 5 : setup) + Int(Double(rows * servers) * each)
    }
    return switch self {
    case .face: time(40, 4, 5)
    case .sizes: time(40, 4, 4)
    case .clients: time(12, 4, 3)
    case .busy: time(15, 1, 3)
    case .loops: time(20, 3, min(3, max(2, Pinning.processors)))
    case .mixed: time(12, 2, 3)
    case .changes: time(12, 3, 2)
    case .relay: time(15, 4, 4)
    case .tail: time(180)
    case .apply: time(40)
    case .latency: time(40)
    case .eviction: time(40)
    case .cost: time(45)
    case .uring: time(5, 4, 2)
    case .huge: time(420)
    }
  }

  static var list: String {
    let (long, short) = (Rounds(count: 5, seconds: 2), Rounds(count: 1, seconds: 0.1, isShort: true))
    var text = ""
    for group in allCases {
      let name = group.rawValue + String(repeating: " ", count: 10 - group.rawValue.count)
      text += "\(name)\(group.seconds(long)) s, --short \(group.seconds(short)) s: \(group.summary)\n"
    }
    let sum = allCases.filter { $0 != .huge }.reduce(0) { $0 + $1.seconds(long) }
    return text + "--all takes about \((sum + 59) / 60) minutes: 5 rounds of 2 s of each server in each row."
  }

  /// - Parameters:
  ///   - tools: the folder of the programs that were built with this one.
  ///   - traces: files for the group eviction.
  func measure(
    _ rounds: Rounds, tools: String, traces: [String], into report: inout Report
  ) throws {
    /// Rows over servers that hold the same keys.
    func compare(_ title: String, _ workloads: [Workload], _ names: [PeerName], tcp: Bool = false) throws {
      let workloads = workloads.map(rounds.fit)
      guard let first = workloads.first else { return }
      let stage = try Stage(names, first, tools: tools, tcp: tcp)
      for name in stage.missing { report.note("\(name.rawValue) is not installed, and left out.") }
      let peers = names.compactMap { stage.peers[$0] }
      for workload in workloads { report.add(try rounds.measure(workload, peers), to: title) }
    }
    switch self {
    case .face:
      for workload in [
        Workload(depth: 1), Workload(depth: 16), Workload(kind: .mget(16), depth: 1),
        Workload(kind: .mget(16), depth: 16),
      ] {
        try compare("Reads from memory", [workload], [.nearside, .redis, .memcached, .nutcracker, .echo])
      }
    case .sizes:
      for (bytes, keys) in [(16, 100_000), (1024, 50_000), (16 * 1024, 5000), (64 * 1024, 1000)] {
        try compare(
          "Sizes of values", [Workload(keys: keys, valueBytes: bytes)],
          [.nearside, .redis, .memcached, .echo])
      }
    case .clients:
      try compare(
        "Clients and keys",
        [
          Workload(connections: 1), Workload(connections: 1000), Workload(popularity: .zipf),
          Workload(popularity: .zipf, depth: 16),
        ], [.nearside, .redis, .memcached])
    case .busy:
      try compare("One client that waits", [Workload(connections: 1)], [.busy, .nearside, .redis])
    case .mixed:
      try compare(
        "Reads and writes", [Workload(kind: .mixed), Workload(kind: .mixed, depth: 16)],
        [.nearside, .redis, .memcached])
    case .relay:
      let names = [PeerName.relayed, .relay, .nutcracker, .redis]
      try compare("Commands that are passed on", [Workload(), Workload(depth: 16)], names)
      try compare(
        "Commands that are passed on, over TCP", [Workload(), Workload(depth: 16)], names, tcp: true)
    case .uring:
      guard try Stage.allowsURing(tools, into: &report) else { return }
      for connections in [1, 50] {
        for depth in [1, 16] {
          try compare(
            "io_uring beside epoll", [Workload(connections: connections, depth: depth)], [.uring, .echo])
        }
      }
    case .loops: try Loops.measure(rounds, into: &report)
    case .changes: try Changes.measure(rounds, tools: tools, into: &report)
    case .tail: try Tail.measure(rounds, into: &report)
    case .apply: try Applying.measure(rounds, into: &report)
    case .latency: try Latency.measure(rounds, into: &report)
    case .eviction: try Eviction.measure(rounds, traces: traces, into: &report)
    case .cost: try Cost.measure(rounds, into: &report)
    case .huge: try Tail.measureHuge(rounds, into: &report)
    }
  }
}
