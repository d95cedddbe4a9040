import Histogram

/// One server's figures in one row: the medians of its rounds.
struct Figures {
  var server: String
  var requestsPerSecond: Double
  /// Of a batch, from its write to its last reply, in microseconds.
  var p50: Double
  var p99: Double
  var p999: Double
  /// Of the server's processes, in nanoseconds a request.
  var processorTime: Double
  var misses: Int
  var errors: Int
}

/// One row of the comparison.
struct Row {
  var name: String
  var figures: [Figures]
}

struct Rounds {
  var count: Int
  var seconds: Double
  /// Only to show that everything runs.
  var isShort = false

  /// The load itself, or the same with few keys.
  func fit(_ workload: Workload) -> Workload {
    guard isShort else { return workload }
    var few = workload
    few.keys = min(few.keys, 2000)
    return few
  }

  /// `many`, or in a short run `few`.
  func pick<Number>(_ many: Number, _ few: Number) -> Number { isShort ? few : many }

  /// Measures the servers in turns, so that whatever else the machine does meets all of them.
  func measure(_ workload: Workload, _ peers: [Peer], name: String? = nil) throws -> Row {
    var runs: [[(outcome: Outcome, processor: Double)]] = peers.map { _ in [] }
    let requests = peers.map { Requests(workload, $0.dialect, prefix: $0.prefix) }
    for round in 0...count {
      for (place, peer) in peers.enumerated() {
        let before = ProcessCost.nanoseconds(peer.pids)
        // The first round warms up, and is not counted.
        let time = round == 0 ? min(0.3, seconds) : seconds
        let outcome = try Generator.run(
          requests[place], at: peer.endpoint, peer.dialect, connections: workload.connections,
          depth: workload.depth, until: .time(UInt64(time * 1e9)))
        let cost = Double(ProcessCost.nanoseconds(peer.pids) - before) / Double(max(1, outcome.requests))
        if round > 0 { runs[place].append((outcome, cost)) }
      }
    }
    let figures = zip(peers, runs).map { peer, runs in
      Figures(
        server: peer.name, requestsPerSecond: Self.median(runs.map(\.outcome.rate)),
        p50: Self.median(runs.map { Double($0.outcome.latencies.valueAtPercentile(50)) / 1000 }),
        p99: Self.median(runs.map { Double($0.outcome.latencies.valueAtPercentile(99)) / 1000 }),
        p999: Self.median(runs.map { Double($0.outcome.latencies.valueAtPercentile(99.9)) / 1000 }),
        processorTime: Self.median(runs.map(\.processor)),
        misses: runs.reduce(0) { $0 + $1.outcome.misses }, errors: runs.reduce(0) { $0 + $1.outcome.errors })
    }
    return Row(name: name ?? workload.title, figures: figures)
  }

  static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    return sorted.count % 2 == 1
      ? sorted[sorted.count / 2] : (sorted[sorted.count / 2 - 1] + sorted[sorted.count / 2]) / 2
  }
}
