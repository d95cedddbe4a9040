import CLinux
import Glibc

/// A thread with a name, for `top -H` and for debuggers.
public enum Worker {
  private final class Body: Sendable {
    let run: @Sendable () -> Void
    let name: String
    init(name: String, run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// A started thread, to be joined once.
  public struct Handle: Sendable {
    let thread: pthread_t

    /// Waits until the thread has ended.
    public func join() { pthread_join(thread, nil) }
  }

  /// Starts a thread; nil if the system refuses one. At most 15 bytes of the name are kept (prctl(2), PR_SET_NAME).
  public static func start(_ name: String, _ run: @escaping @Sendable () -> Void) -> Handle? {
    let body = Unmanaged.passRetained(Body(name: name, run: run))
    var thread = pthread_t()
    let failed = pthread_create(
      &thread, nil,
      { raw in
        guard let raw else { return nil }
        let body = Unmanaged<Body>.fromOpaque(raw).takeRetainedValue()
        clinux_name_thread(body.name)
        body.run()
        return nil
      }, body.toOpaque())
    guard failed == 0 else {
      body.release()
      return nil
    }
    return Handle(thread: thread)
  }

  /// Starts a thread that nobody waits for.
  public static func detached(_ name: String, _ run: @escaping @Sendable () -> Void) -> Bool {
    guard let handle = start(name, run) else { return false }
    pthread_detach(handle.thread)
    return true
  }
}
