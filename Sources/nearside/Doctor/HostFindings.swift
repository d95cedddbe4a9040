import Configuration
import Glibc

extension HostFacts {
  /// What is found, good or not, in the order in which a start meets it.
  var findings: [Finding] {
    var all = [pathLength, folderFinding, placeFinding]
    if group != .unset { all.append(groupFinding) }
    if let loopback { all.append(loopbackFinding(loopback.address, isTaken: loopback.isTaken)) }
    if let admin { all.append(adminFinding(admin.path, admin.place)) }
    if let adminTCP { all.append(adminTCPFinding(adminTCP)) }
    return all + [descriptorFinding, memoryFinding, supervisorFinding]
  }

  private var pathLength: Finding {
    let length = path.utf8.count
    guard length > Self.longestPath else {
      return .good("socket_path", "The path of the socket has \(length) bytes of \(Self.longestPath).")
    }
    return Finding(
      "socket_path", .error,
      "\(path) is too long for a Unix socket, which has room for \(Self.longestPath) bytes.",
      fix: "Give \"listen\" a shorter path.")
  }

  private var parent: String { path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "." }

  private var folderFinding: Finding {
    switch folder {
    case .writable: .good("socket_folder", "\(parent) exists, and this user may write there.")
    case .missing:
      Finding(
        "socket_folder", .error, "\(parent), where the socket is to be, does not exist.",
        fix: "Create it for the sidecar's user (systemd: RuntimeDirectory=), or give \"listen\" another path."
      )
    case .readOnly:
      Finding(
        "socket_folder", .error, "This user may not create the socket in \(parent).",
        fix: "Give the folder to the sidecar's user, or run this as that user.", isMissingRight: true)
    }
  }

  private var placeFinding: Finding {
    switch place {
    case .nothing: .good("socket", "Nothing stands where the socket is to be.")
    case .listener(let pid, let program) where program == nil || program == "nearside":
      .good("socket", "A sidecar\(pid > 0 ? " (process \(pid))" : "") listens on \(path).")
    case .listener(let pid, let program):
      Finding(
        "socket", .error, "Another program (\(program ?? "?"), process \(pid)) listens on \(path).",
        fix: "Stop it, or give \"listen\" another path.")
    case .leftOver:
      Finding(
        "socket", .warning, "\(path) is left over from a process that has died; nobody listens on it.",
        fix: "Start the sidecar, which replaces it.")
    case .closed:
      Finding(
        "socket", .warning, "This user may not connect to \(path).",
        fix: "Look at \"mode\" and \"group\" of \"listen\", and give applications' users that group.",
        isMissingRight: true)
    case .noSocket:
      Finding(
        "socket", .error, "\(path) exists and is no socket.",
        fix: "Remove it, or give \"listen\" another path.")
    }
  }

  private var groupFinding: Finding {
    switch group {
    case .unset, .own: .good("socket_group", "The socket can be given to group \(groupName).")
    case .missing:
      Finding(
        "socket_group", .error, "There is no group \"\(groupName)\".",
        fix: "Create it (groupadd --system \(groupName)), or leave \"group\" out of \"listen\".")
    case .foreign:
      Finding(
        "socket_group", .error,
        "This user is no member of group \"\(groupName)\" and cannot give it the socket.",
        fix: "Make the sidecar's user a member (usermod -aG \(groupName) USER), or run this as that user.",
        isMissingRight: true)
    }
  }

  private func loopbackFinding(_ address: String, isTaken: Bool) -> Finding {
    guard isTaken, !isRunning else {
      return .good(
        "loopback", "\(address) is \(isTaken ? "in use, as it should while a sidecar runs" : "free").")
    }
    return Finding(
      "loopback", .error, "Another program has \(address).",
      fix: "Stop it, or give \"listen.tcp\" another port.")
  }

  /// Whether it is a sidecar that has an address that is in use.
  private var isRunning: Bool {
    if case .listener(_, let program) = place { program == nil || program == "nearside" } else { false }
  }

  private func adminFinding(_ path: String, _ place: Place) -> Finding {
    let fix = "Stop it, or give \"admin.socket\" another path."
    switch place {
    case .nothing, .leftOver:
      return .good("admin_socket", "The admin endpoint can be made at \(path).")
    case .listener(let pid, let program) where program == nil || program == "nearside":
      return isRunning
        ? .good("admin_socket", "The admin endpoint listens on \(path).")
        : Finding(
          "admin_socket", .error, "Another sidecar (process \(pid)) has its admin endpoint at \(path).",
          fix: fix)
    case .listener(let pid, let program):
      return Finding(
        "admin_socket", .error, "Another program (\(program ?? "?"), process \(pid)) listens on \(path).",
        fix: fix)
    case .closed:
      return Finding(
        "admin_socket", .warning,
        "This user may not connect to \(path), so health, stats and the like say nothing to it.",
        fix: "Look at \"mode\" and \"group\" of \"listen\", which hold for it too.", isMissingRight: true)
    case .noSocket:
      return Finding(
        "admin_socket", .error, "\(path) exists and is no socket.",
        fix: "Remove it, or give \"admin.socket\" another path.")
    }
  }

  private func adminTCPFinding(_ tcp: (address: String, isLoopback: Bool, bindError: Int32)) -> Finding {
    let fix = "Give \"admin.tcp\" another address, or leave it out."
    switch tcp.bindError {
    case EADDRINUSE where !isRunning:
      return Finding("admin_tcp", .error, "Another program has \(tcp.address).", fix: fix)
    case EADDRNOTAVAIL:
      return Finding("admin_tcp", .error, "\(tcp.address) is no address of this host.", fix: fix)
    case EACCES, EPERM:
      return Finding(
        "admin_tcp", .error, "This user may not listen on \(tcp.address): the port is below 1024.",
        fix: "Give \"admin.tcp\" a port above 1023.", isMissingRight: true)
    default: break
    }
    guard tcp.isLoopback else {
      return Finding(
        "admin_tcp", .warning,
        "Whoever reaches \(tcp.address) over the network sees the metrics, the settings and names of tables; no keys, "
          + "no values and no secrets.",
        fix:
          "Keep strangers away by a firewall or a network policy, or give \"admin.tcp\" a loopback address.")
    }
    return .good(
      "admin_tcp",
      "\(tcp.address) is \(tcp.bindError == EADDRINUSE ? "in use, as it should while a sidecar runs" : "free")."
    )
  }

  private var descriptorFinding: Finding {
    guard let descriptors else {
      return .good("file_descriptors", "There are file descriptors for \(mostClients) clients.")
    }
    guard let semicolon = descriptors.firstIndex(of: ";") else {
      return Finding("file_descriptors", .warning, descriptors + ".")
    }
    let advice = descriptors[descriptors.index(after: semicolon)...].drop { $0 == " " }
    return Finding(
      "file_descriptors", .warning, descriptors[..<semicolon] + ".",
      fix: advice.prefix(1).uppercased() + advice.dropFirst() + ".")
  }

  /// Beside the near cache there are clients' buffers, requests under way and the process itself.
  private var memoryFinding: Finding {
    let needed = UInt64(nearSize) / 10 * 13
    let limit = min(memoryLimit ?? .max, memory == 0 ? .max : memory)
    guard limit < needed else {
      let have = limit == .max ? "unlimited" : "\(limit >> 20) MiB"
      return .good("memory", "Memory is \(have), and near.size is \(nearSize >> 20) MiB.")
    }
    let isGroup = memoryLimit.map { $0 == limit } ?? false
    return Finding(
      "memory", .error,
      "near.size is \(nearSize >> 20) MiB, and \(isGroup ? "the control group" : "this host") has \(limit >> 20) MiB "
        + "of memory; a sidecar whose near cache is full needs about \(needed >> 20) MiB.",
      fix: isGroup
        ? "Raise the limit (systemd: MemoryMax=, Kubernetes: resources.limits.memory), or lower near.size."
        : "Lower near.size.")
  }

  private var supervisorFinding: Finding {
    switch supervisor {
    case .systemd: .good("supervisor", "This host is run by systemd.")
    case .kubernetes: .good("supervisor", "This is a container of Kubernetes.")
    case .none: .good("supervisor", "Neither systemd nor Kubernetes is seen here.")
    }
  }
}
