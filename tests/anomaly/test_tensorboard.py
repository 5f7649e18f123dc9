import img2img

CPU = {"accelerator": "cpu", "devices": 1}


def test_histograms_of_normal_and_abnormal_go_to_tensorboard(linear, parts):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    img2img.score(parts, None, linear, tensorboard="tb", **CPU)
    events = EventAccumulator("tb")
    events.Reload()
    assert {"neighbour/normal", "neighbour/abnormal", "pca_error/normal"} <= set(events.Tags()["histograms"])
    normal, abnormal = (events.Histograms(f"error/{kind}")[0].histogram_value for kind in ("normal", "abnormal"))
    assert (normal.num, abnormal.num) == (6, 6)
    assert normal.max < abnormal.max
    picture = events.Images("scores")[0]
    assert (picture.width, picture.height) == (960, 5 * 220)


def test_held_out_images_stand_for_normal_ones_that_no_label_names(linear, parts):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    img2img.score(parts / "spot", None, linear, tensorboard="tb", **CPU)
    events = EventAccumulator("tb")
    events.Reload()
    kinds = {kind: events.Histograms(f"error/{kind}")[0].histogram_value.num for kind in ("normal", "abnormal")}
    assert kinds == {"normal": 12, "abnormal": 6}
