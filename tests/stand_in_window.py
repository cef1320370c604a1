"""A front end that holds a stand-in worker until it is killed.

Run as ``python stand_in_window.py NAME [fork|leave]``.  Once the worker has opened an image called NAME it
prints the worker's process id, a shared file, and the process id of its fork (0: none).
"""

import os
import sys
import threading
import time

from worker_talk import Conversation, SharedImage

from napari_sparseseg.events import ImageReady

if __name__ == "__main__":
    talk = Conversation()
    talk.client.start()
    image = SharedImage(sys.argv[1])
    talk.client.send(image.request)
    talk.wait_for(ImageReady)
    fork = os.fork() if "fork" in sys.argv else None
    if fork == 0:  # it holds the pipes, too
        time.sleep(600)
        os._exit(0)
    sys.stdout.write(f"{talk.client.pid} {image.request.image.path} {fork or 0}\n")
    sys.stdout.flush()
    if "leave" in sys.argv:
        sys.exit()
    threading.Event().wait()
