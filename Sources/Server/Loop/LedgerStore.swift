import Glibc
import Invalidation
import NearCache

/// Reads and writes the ledger's file beside the socket (`LedgerFile`): touched every second while clients
/// are served, and with the ledger's table in it after a clean stop.
struct LedgerStore {
  private let path: String
  private let boot: String

  init(socketPath: String) {
    path = socketPath + ".ledger"
    let id = Self.read("/proc/sys/kernel/random/boot_id") ?? []
    boot = String(decoding: id.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
  }

  /// Tells the ledger what a predecessor on this socket may have answered.
  func load(into ledger: inout FillLedger) {
    guard let bytes = Self.read(path) else {
      // Only a file that is not there means that there was no predecessor.
      if errno == ENOENT { ledger.adopt(nil, boot: boot) }
      return
    }
    if let file = LedgerFile(bytes: bytes) { ledger.adopt(file, boot: boot) }
  }

  /// From now on the table in the file, if there is one, is out of date.
  func touch(now: Instant) { write(LedgerFile(boot: boot, touched: now)) }

  /// A clean stop: nobody is answered after this.
  func save(_ ledger: FillLedger, now: Instant) {
    write(LedgerFile(boot: boot, touched: now, table: ledger.serialise()))
  }

  /// A failure leaves the older file, which the next touch, a second later, replaces.
  private func write(_ file: LedgerFile) {
    let temporary = path + ".new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { return }
    let bytes = file.bytes
    let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    close(descriptor)
    if written == bytes.count { rename(temporary, path) }
  }

  /// nil, with errno, if the file cannot be read.
  private static func read(_ path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      guard count > 0 else { return count == 0 ? bytes : nil }
      bytes.append(contentsOf: chunk[..<count])
    }
  }
}
