import CLinux
import Glibc
import TestSupport

/// From the start of the process to the first answer; what it takes when nobody asks for anything, with a near cache
/// that is full; and how large the program is.
enum Cost {
  static func measure(_ rounds: Rounds, into report: inout Report) throws {
    // Values of more than the near cache has room for, so that it is full.
    let near = rounds.pick(64, 8)
    let site = try NearsideSite(Workload(keys: near * 1200, valueBytes: 1024), near: near)
    try site.readAll()
    try site.readAll()
    guard try site.sidecar.count("near_evicted") > 0 else {
      throw HarnessError("the near cache did not become full")
    }
    let limit = try site.sidecar.count("near_limit_bytes")
    let resident = ProcessCost.resident(site.pids)
    // Idle is when nothing has changed for a while (`Cadence.patience`).
    sleep(.seconds(rounds.pick(7, 0)))
    let before = ProcessCost.nanoseconds(site.pids)
    let seconds = rounds.pick(10, 1)
    sleep(.seconds(seconds))
    let used = ProcessCost.nanoseconds(site.pids) - before
    try site.sidecar.terminate()
    var times: [Double] = []
    for _ in 0..<rounds.pick(7, 2) {
      let start = clinux_boot_nanoseconds()
      try site.sidecar.start()
      times.append(Double(clinux_boot_nanoseconds() - start) / 1e6)
      try site.follow()
      try site.sidecar.terminate()
    }
    report.add(
      [
        .init(name: "start to the first answer", value: Rounds.median(times), unit: "ms"),
        .init(
          name: "processor time when idle", value: Double(used) / Double(seconds) / 1e7, unit: "% of a core"),
        .init(name: "bound of the near cache, which is full", value: Double(limit) / 1e6, unit: "MB"),
        .init(name: "resident memory", value: Double(resident) / 1e6, unit: "MB"),
        .init(
          name: "what of it lies beyond 40 MB, by the bound",
          value: max(0, Double(resident) - 40e6) / Double(limit), unit: "×"),
      ], to: "What Nearside takes")
    report.add(try program(), to: "What Nearside takes")
  }

  private static func program() throws -> [Report.Fact] {
    var facts = [
      Report.Fact(name: "the program", value: Double(size(Sidecar.executable)) / 1e6, unit: "MB")
    ]
    guard Peer.has("strip") else { return facts }
    let folder = try TemporaryFolder()
    try succeed(["strip", "-o", folder.file("nearside"), Sidecar.executable])
    facts.append(
      .init(
        name: "the same without symbols", value: Double(size(folder.file("nearside"))) / 1e6, unit: "MB"))
    return facts
  }

  private static func size(_ path: String) -> Int {
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_size) : 0
  }
}
