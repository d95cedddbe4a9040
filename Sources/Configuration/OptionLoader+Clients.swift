// Where clients connect, who may, and what they may use.
extension OptionLoader {
  mutating func listen(_ top: Section) -> ListenSettings {
    let section = section("listen", in: top)
    let mode = fileMode("listen.mode", in: section)
    let group = nonEmpty("listen.group", in: section)?.text
    let given =
      if let node = top["listen"]?.node, node.string != nil {
        nonEmpty(node, option: "listen", steps: [.key("listen")])
      } else {
        nonEmpty("listen.socket", in: section)
      }
    var path = "/run/nearside/redis.sock"
    var origin = "the path of this socket"
    if let given {
      path = given.text
    } else if let folder = expansion.environment["RUNTIME_DIRECTORY"]?.split(separator: ":").first {
      // systemd gives several folders with colons between them: systemd.exec(5), RuntimeDirectory=.
      path = folder + "/redis.sock"
      origin = "the path of the socket in $RUNTIME_DIRECTORY"
    }
    // sun_path holds 108 bytes with the final zero: unix(7).
    if path.utf8.count > 107 {
      error(
        given?.place, .badValue, [.key("listen")],
        "\(origin) has \(path.utf8.count) bytes; a Unix socket's path has at most 107")
    }
    return ListenSettings(
      path: path, mode: mode, group: group, tcp: loopbackAddress("listen.tcp", in: section),
      password: password("listen.password", in: section), users: names("listen.users", in: section),
      groups: names("listen.groups", in: section), busyPoll: busyPoll(section))
  }

  /// Longer than 1 ms would keep what is due by then from being done.
  private mutating func busyPoll(_ section: Section?) -> UInt64 {
    let time = durationOrFalse("listen.busyPoll", in: section) ?? 0
    if time > 1_000_000, let (node, steps) = find("listen.busyPoll", in: section) {
      error(
        node.place, .badValue, steps,
        "that is more than \"1ms\", and a processor is taken for as long; \"50us\" is long enough for a client that "
          + "waits for each answer")
    }
    return time
  }

  mutating func admin(_ top: Section, _ listen: ListenSettings) -> AdminSettings {
    let section = section("admin", in: top)
    return AdminSettings(socket: adminSocket(section, listen), tcp: networkAddress("admin.tcp", in: section))
  }

  private mutating func adminSocket(_ section: Section?, _ listen: ListenSettings) -> String? {
    guard let (node, steps) = find("admin.socket", in: section) else {
      // Where it does not fit there is none, and the start says so: an option that nobody gave is no error.
      let path = listen.path + ".admin"
      return path.utf8.count > 107 ? nil : path
    }
    if node.bool == false { return nil }
    guard let text = nonEmpty("admin.socket", in: section) else { return nil }
    if text.text.utf8.count > 107 {
      error(
        text.place, .badValue, steps,
        "this path has \(text.text.utf8.count) bytes; a Unix socket's path has at most 107")
    } else if text.text == listen.path {
      error(text.place, .badValue, steps, "this is the socket of the applications; give it another path")
    }
    return text.text
  }

  private mutating func networkAddress(_ path: String, in section: Section?) -> NetworkAddress? {
    guard let text = nonEmpty(path, in: section), let (_, steps) = find(path, in: section) else { return nil }
    if let address = NetworkAddress(text.text) { return address }
    error(
      text.place, .badValue, steps,
      "\(text.shown) is not an IP address with a port; write it like \"127.0.0.1:9847\" or \"[::1]:9847\"")
    return nil
  }

  private mutating func loopbackAddress(_ path: String, in section: Section?) -> LoopbackAddress? {
    guard let text = nonEmpty(path, in: section), let (_, steps) = find(path, in: section) else { return nil }
    do throws(LoopbackAddress.Failure) {
      return try LoopbackAddress(parsing: text.text)
    } catch {
      switch error {
      case .malformed:
        self.error(
          text.place, .badValue, steps,
          "\(text.shown) is not an address with a port; write it like \"127.0.0.1:6380\" or \"[::1]:6380\"")
      case .notLoopback:
        self.error(
          text.place, .badValue, steps,
          "\(text.shown) is not a loopback address, and Nearside serves the programs of its own host only; use "
            + "127.0.0.1 or [::1], with a port")
      }
    }
    return nil
  }

  private mutating func names(_ path: String, in section: Section?) -> [String] {
    list(path, in: section) { loader, node, steps in
      loader.nonEmpty(node, option: path + Self.element, steps: steps)?.text
    } ?? []
  }

  mutating func clients(_ top: Section) -> ClientSettings {
    let section = section("clients", in: top)
    let output = self.section("clients.outputBuffer", in: section)
    return ClientSettings(
      most: count("clients.max", in: section), queryBuffer: size("clients.queryBuffer", in: section),
      output: outputLimit("clients.outputBuffer.normal", in: output),
      messageOutput: outputLimit("clients.outputBuffer.pubsub", in: output),
      idle: durationOrFalse("clients.idle", in: section),
      trackedKeys: count("clients.trackedKeys", in: section))
  }

  private mutating func outputLimit(_ path: String, in parent: Section?) -> ClientSettings.OutputLimit {
    let section = section(path, in: parent)
    let soft = sizeIfAny(path + ".soft", in: section)
    return ClientSettings.OutputLimit(
      hard: size(path + ".hard", in: section),
      soft: soft ?? ConfigurationOption.at(path + ".soft")?.defaultValue.flatMap(Units.size),
      softTime: durationIfAny(path + ".softTime", in: section) ?? 60_000_000_000)
  }
}
