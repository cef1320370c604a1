from napari_sparseseg.events import Noted, finish


def work(closed):
    try:
        yield Noted("one")
        yield Noted("two")
    finally:
        closed.append(True)
    return 42


def test_finish_hands_on_every_event_and_returns_the_result():
    seen, closed = [], []
    assert finish(work(closed), seen.append) == 42
    assert seen == [Noted("one"), Noted("two")]
    assert finish(work(closed)) == 42


def test_work_can_be_stopped_at_an_event():
    closed = []
    generator = work(closed)
    next(generator)
    generator.close()
    assert closed == [True]
