import TestSupport

/// What can be measured by itself.
enum Group: String, CaseIterable {
  /// Reads from memory: the table of the README.
  case face
  /// Values from 16 B to 64 KiB.
  case sizes
  /// Connections from 1 to 1000, and keys of unequal popularity.
  case clients
  /// Nine reads to one SET.
  case mixed
  /// Reads while rows change.
  case changes
  /// Commands that are passed on to Redis.
  case relay
  /// The log, read and applied.
  case tail
  /// From a commit to what readers see.
  case latency
  /// Start, memory and what it costs to do nothing.
  case idle

  func measure(_ rounds: Rounds, tools: String, into report: inout Report) throws {
    switch self {
    case .face:
      var rows: [Row] = []
      for workload in [
        Workload(depth: 1), Workload(depth: 16), Workload(kind: .mget(16), depth: 1),
        Workload(kind: .mget(16), depth: 16),
      ] {
        rows += try Self.rows(
          [workload], [.nearside, .redis, .memcached, .nutcracker, .echo], rounds, tools)
      }
      report.comparisons.append(.init(title: "Reads from memory", rows: rows))
    case .sizes:
      var rows: [Row] = []
      for (bytes, keys) in [(16, 100_000), (1024, 50_000), (16 * 1024, 5000), (64 * 1024, 1000)] {
        rows += try Self.rows(
          [Workload(keys: keys, valueBytes: bytes)], [.nearside, .redis, .memcached, .echo], rounds, tools)
      }
      report.comparisons.append(.init(title: "Sizes of values", rows: rows))
    case .clients:
      let workloads = [
        Workload(connections: 1), Workload(connections: 1000), Workload(popularity: .zipf),
        Workload(popularity: .zipf, depth: 16),
      ]
      report.comparisons.append(
        .init(
          title: "Clients and keys",
          rows: try Self.rows(workloads, [.nearside, .redis, .memcached], rounds, tools)))
    case .mixed:
      let workloads = [Workload(kind: .mixed), Workload(kind: .mixed, depth: 16)]
      report.comparisons.append(
        .init(
          title: "Reads and writes",
          rows: try Self.rows(workloads, [.nearside, .redis, .memcached], rounds, tools)))
    case .changes: try Changes.measure(rounds, tools: tools, into: &report)
    case .tail: try Tail.measure(into: &report)
    case .latency: try Latency.measure(into: &report)
    case .idle: try Idle.measure(into: &report)
    case .relay:
      let workloads = [Workload(), Workload(depth: 16)]
      report.comparisons.append(
        .init(
          title: "Commands that are passed on",
          rows: try Self.rows(workloads, [.relayed, .relay, .nutcracker, .redis], rounds, tools)))
    }
  }

  /// Rows over servers that hold the same keys.
  private static func rows(
    _ workloads: [Workload], _ names: [PeerName], _ rounds: Rounds, _ tools: String
  ) throws -> [Row] {
    guard let first = workloads.first else { return [] }
    let stage = try Stage(names, first, tools: tools)
    let peers = names.compactMap { stage.peers[$0] }
    return try workloads.map { try rounds.measure($0, peers) }
  }
}
