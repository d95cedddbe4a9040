import Glibc

/// How many file descriptors this process may have, and what of them clients may take.
public enum DescriptorLimit {
  /// What the sidecar needs for itself: the listeners, Redis, PostgreSQL, files, and clients' own connections to
  /// Redis.
  public static let reserve = 256

  /// Asks for as many as `clients` need. The result is what a person should be told if the system gives fewer.
  public static func raise(for clients: Int) -> String? {
    let wanted = rlim_t(clients + reserve)
    var limit = rlimit()
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard getrlimit(resource, &limit) == 0, limit.rlim_cur < wanted else { return nil }
    let hard = limit.rlim_max
    // Whoever is privileged may raise the hard limit too.
    limit.rlim_cur = wanted
    limit.rlim_max = max(hard, wanted)
    if setrlimit(resource, &limit) == 0 { return nil }
    limit.rlim_cur = min(hard, wanted)
    limit.rlim_max = hard
    setrlimit(resource, &limit)
    guard Self.clients < clients else { return nil }
    return
      "clients.max is \(clients), but this process may have \(current) file descriptors only, so at most "
      + "\(Self.clients) clients are served; raise the limit (systemd: LimitNOFILE, containers: ulimit nofile)"
  }

  private static var current: Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
    return Int(clamping: limit.rlim_cur)
  }

  /// How many clients the limit leaves room for; at least one.
  public static var clients: Int { max(1, current - reserve) }
}
