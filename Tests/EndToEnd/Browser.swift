import Foundation
import Glibc
import TestSupport

/// Debian's Chromium without a window, led over the pipes of its debugging protocol.
/// Source: Chrome DevTools Protocol; --remote-debugging-pipe reads messages from descriptor 3 and writes to 4, a zero
/// behind each.
final class Browser {
  static let program: String? = ["/usr/bin/chromium"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  private let folder: TemporaryFolder
  private let process: ChildProcess
  private let commands: Int32
  private let answers: Int32
  private var bytes: [UInt8] = []
  private var number = 0
  private var session: String?
  /// Every address that the page has asked for.
  private(set) var requests: Set<String> = []

  init() throws {
    folder = try TemporaryFolder()
    var (to, from): ([Int32], [Int32]) = ([0, 0], [0, 0])
    guard pipe(&to) == 0, pipe(&from) == 0 else { throw HarnessError("no pipe") }
    process = try ChildProcess(
      [
        Self.program ?? "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-pipe",
        "--user-data-dir=\(folder.file("profile"))", "about:blank",
      ], environment: ["HOME": folder.path], handed: [to[0], from[1]])
    close(to[0])
    close(from[1])
    (commands, answers) = (to[1], from[0])
    let target = try call("Target.createTarget", ["url": "about:blank"])["targetId"] as? String ?? ""
    session =
      try call("Target.attachToTarget", ["targetId": target, "flatten": true])["sessionId"] as? String
    _ = try call("Network.enable")
    _ = try call("Page.enable")
  }

  deinit {
    close(commands)
    close(answers)
  }

  func open(_ address: String) throws { _ = try call("Page.navigate", ["url": address]) }

  func look(width: Int, height: Int, isDark: Bool) throws {
    _ = try call(
      "Emulation.setDeviceMetricsOverride",
      ["width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600])
    let scheme = ["name": "prefers-color-scheme", "value": isDark ? "dark" : "light"]
    _ = try call("Emulation.setEmulatedMedia", ["features": [scheme]])
  }

  /// What a JavaScript expression says, as text.
  func evaluate(_ expression: String) throws -> String {
    let result = try call("Runtime.evaluate", ["expression": "String(\(expression))"])["result"]
    return (result as? [String: Any])?["value"] as? String ?? ""
  }

  private func call(_ method: String, _ parameters: [String: Any] = [:]) throws -> [String: Any] {
    number += 1
    var message: [String: Any] = ["id": number, "method": method, "params": parameters]
    message["sessionId"] = session
    let data = try Array(JSONSerialization.data(withJSONObject: message)) + [0]
    guard write(commands, data, data.count) == data.count else { throw HarnessError("Chromium is gone") }
    while true {
      let answer = try next()
      if answer["method"] as? String == "Network.requestWillBeSent",
        let request = (answer["params"] as? [String: Any])?["request"] as? [String: Any],
        let address = request["url"] as? String
      {
        requests.insert(address)
      }
      guard answer["id"] as? Int == number else { continue }
      if let error = answer["error"] { throw HarnessError("\(method): \(error)") }
      return answer["result"] as? [String: Any] ?? [:]
    }
  }

  private func next() throws -> [String: Any] {
    while true {
      if let end = bytes.firstIndex(of: 0) {
        let message = Data(bytes[..<end])
        bytes.removeFirst(end + 1)
        return try JSONSerialization.jsonObject(with: message) as? [String: Any] ?? [:]
      }
      var waiting = pollfd(fd: answers, events: Int16(POLLIN), revents: 0)
      guard poll(&waiting, 1, 60_000) == 1 else {
        throw HarnessError("Chromium has not answered within 60 s")
      }
      var buffer = [UInt8](repeating: 0, count: 64 * 1024)
      let count = read(answers, &buffer, buffer.count)
      guard count > 0 else { throw HarnessError("Chromium has ended: \(process.errors.suffix(500))") }
      bytes += buffer[..<count]
    }
  }
}
