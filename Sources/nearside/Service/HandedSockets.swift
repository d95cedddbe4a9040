import Glibc

/// Sockets that the service manager has made and hands over with the process: LISTEN_FDS of them, from descriptor 3 on.
/// Source: sd_listen_fds(3).
enum HandedSockets {
  /// The descriptors, each to be closed with the process; none if they are meant for another one.
  static func take(environment: [String: String], pid: Int32 = getpid()) -> [Int32] {
    guard environment["LISTEN_PID"] == String(pid),
      let count = environment["LISTEN_FDS"].flatMap({ Int32($0) }),
      count > 0, count < 1000
    else { return [] }
    unsetenv("LISTEN_PID")
    unsetenv("LISTEN_FDS")
    unsetenv("LISTEN_FDNAMES")
    let descriptors = Array(3..<3 + count)
    for descriptor in descriptors { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    return descriptors
  }
}
