"""`scripts/step_times.py`: which steps of a run are timed."""

MARKS = [(1, 0.0), (10, 9.0), (20, 29.0), (30, 129.0), (50, 169.0)]


def test_the_time_of_a_step_is_the_mean_after_the_steps_that_are_not_counted(script):
    assert script.seconds_per_step(MARKS, 1) == 169.0 / 49
    assert script.seconds_per_step(MARKS, 10) == 160.0 / 40
    assert script.seconds_per_step(MARKS, 9.5) == 160.0 / 40


def test_what_follows_a_step_that_is_left_out_is_not_timed(script):
    assert script.seconds_per_step(MARKS, 10, left_out=(20,)) == 60.0 / 30


def test_the_callback_notes_steps_and_forgets_the_run_before(script):
    class Trainer:
        global_step = 7

    callback = script.StepTimes()
    callback.on_train_batch_end(Trainer())
    ((step, time),) = script.StepTimes.marks
    assert step == 7
    assert time > 0
    script.StepTimes().on_train_start()
    assert script.StepTimes.marks == []
