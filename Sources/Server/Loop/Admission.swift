import CLinux
import Configuration
import Glibc

/// Whose programs may connect to the Unix socket, beside what its mode says: the kernel tells who made a connection
/// (SO_PEERCRED, unix(7)).
public struct Admission: Sendable {
  private let users: Set<UInt32>
  private let groups: Set<UInt32>

  /// Looks the names up, once.
  public init(_ settings: ListenSettings) throws(ListenError) {
    var users: Set<UInt32> = []
    var groups: Set<UInt32> = []
    for name in settings.users {
      guard let number = UInt32(name) ?? getpwnam(name)?.pointee.pw_uid else {
        throw ListenError(
          description:
            "There is no user \"\(name)\". Create it, or take it out of \"listen.users\".")
      }
      users.insert(number)
    }
    for name in settings.groups {
      guard let number = UInt32(name) ?? getgrnam(name)?.pointee.gr_gid else {
        throw ListenError(
          description:
            "There is no group \"\(name)\". Create it, or take it out of \"listen.groups\".")
      }
      groups.insert(number)
    }
    self.users = users
    self.groups = groups
  }

  var admitsAll: Bool { users.isEmpty && groups.isEmpty }

  public func admits(user: UInt32, group: UInt32) -> Bool {
    admitsAll || users.contains(user) || groups.contains(group)
  }

  /// What whoever made this connection is told if it may not; nil: it may.
  func refusal(of descriptor: Int32) -> String? {
    if admitsAll { return nil }
    var process: Int32 = 0
    var user: UInt32 = 0
    var group: UInt32 = 0
    guard clinux_peer(descriptor, &process, &user, &group) == 0 else {
      return "NOPERM Nearside: the system does not tell who connects, and listen.users asks for it"
    }
    // This process's own errands for the admin endpoint, which has asked who they are for.
    guard process != getpid(), !admits(user: user, group: group) else { return nil }
    return
      "NOPERM Nearside: user \(user) with group \(group) is neither in listen.users nor in listen.groups of "
      + "the configuration"
  }
}
