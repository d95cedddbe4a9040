import Glibc
import TestSupport

/// On what, with what and when it was measured.
enum Machine {
  static var description: String {
    let model =
      (readFile("/proc/cpuinfo") ?? "").split(separator: "\n").first { $0.hasPrefix("model name") }?
      .split(separator: ":").last.map { $0.drop { $0 == " " } } ?? "unknown processor"
    let kernel = (readFile("/proc/sys/kernel/osrelease") ?? "").split(separator: "\n").first ?? ""
    func isNumber(_ word: Substring) -> Bool { word.first?.isNumber == true }
    let programs: [(name: String, command: [String])] = [
      ("Nearside", [Sidecar.executable, "--version"]), ("PostgreSQL", ["psql", "--version"]),
      ("memcached", ["memcached", "--version"]),
    ]
    var parts = ["\(Pinning.processors) × \(model)", "Linux \(kernel)"]
    parts += programs.compactMap { program in
      version(program.command, isNumber).map { "\(program.name) \($0)" }
    }
    parts += [
      version(["redis-server", "--version"]) { $0.hasPrefix("v=") }.map { "Redis \($0.dropFirst(2))" }
    ]
    .compactMap { $0 }
    if Peer.has("nutcracker"),
      let proxy = version(["nutcracker", "--version"], { $0.hasPrefix("nutcracker-") })
    {
      parts.append(proxy)
    }
    return parts.joined(separator: ", ") + ", \(today)"
  }

  private static func version(_ command: [String], _ isVersion: (Substring) -> Bool) -> String? {
    guard let done = try? run(command) else { return nil }
    return (done.output + done.errors).split { $0.isWhitespace }.first(where: isVersion).map(String.init)
  }

  private static var today: String {
    var now = time(nil)
    var parts = tm()
    gmtime_r(&now, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : String(value) }
    return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
  }
}
