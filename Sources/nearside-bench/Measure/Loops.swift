import TestSupport

/// Near hits by the number of threads that answer them (`threads`), on as many processors as there are but for the
/// load's own. A machine with two has one for all of them, so that throughput cannot grow there, and what is seen is
/// what the threads cost.
enum Loops {
  static func measure(_ rounds: Rounds, into report: inout Report) throws {
    let workloads = [Workload(depth: 1), Workload(depth: 16), Workload(kind: .mget(16), depth: 1)].map(
      rounds.fit)
    guard let first = workloads.first else { return }
    let counts = [1, 2, 4].filter { $0 <= max(2, Pinning.processors - 1) }
    let sites = try counts.map { try NearsideSite(first, threads: $0) }
    let peers = try zip(counts, sites).map { count, site in
      let peer = try Peer(
        count == 1 ? "nearside, 1 thread" : "nearside, \(count) threads", .unix(site.sidecar.socket),
        prefix: Peer.governedPrefix, pids: site.pids, parts: [site])
      for pid in site.pids { try Pinning.spread(pid) }
      try site.warm()
      return peer
    }
    for workload in workloads { report.add(try rounds.measure(workload, peers), to: "Threads") }
  }
}
