import CLinux
import Glibc

/// What is told to systemd, or to whoever else set NOTIFY_SOCKET: one datagram for each message, without libsystemd.
/// Source: sd_notify(3), systemd.service(5).
struct ServiceManager: Sendable {
  private let path: String
  /// How long the event loop may be silent, in nanoseconds; nil: nobody watches.
  let watchdog: UInt64?

  /// nil: nobody listens.
  init?(environment: [String: String], pid: Int32 = getpid()) {
    guard let path = environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@") else {
      return nil
    }
    self.path = path
    let isMine = environment["WATCHDOG_PID"].map { $0 == String(pid) } ?? true
    watchdog = isMine ? environment["WATCHDOG_USEC"].flatMap { UInt64($0) }.map { $0 * 1000 } : nil
  }

  /// The socket listens.
  func ready() { send("READY=1") }

  /// The configuration is being read again; `ready` says that it has been.
  func reloading() { send("RELOADING=1\nMONOTONIC_USEC=\(Self.monotonicMicroseconds())") }

  private static func monotonicMicroseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1000
  }

  func stopping() { send("STOPPING=1") }

  /// The event loop turns.
  func alive() { send("WATCHDOG=1") }

  /// One line for `systemctl status`.
  func status(_ text: String) {
    send("STATUS=" + String(text.map { $0.isNewline ? " " : $0 }))
  }

  /// A manager that does not take it is no reason to wait, or to fail.
  private func send(_ text: String) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var name = Array(path.utf8)
    // The abstract namespace: unix(7).
    if name.first == UInt8(ascii: "@") { name[0] = 0 }
    guard name.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
    let isAbstract = name[0] == 0
    let length = MemoryLayout<sa_family_t>.size + name.count + (isAbstract ? 0 : 1)
    let kind = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(AF_UNIX, kind, 0)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = sendto(descriptor, bytes, bytes.count, 0, $0, socklen_t(length))
      }
    }
  }
}
