import albumentations
import numpy as np

from img2img.corruptions import GaussianNoise
from img2img.data.fixed_corruption import describe


def test_a_description_tells_arguments_classes_and_order_apart():
    noise, blur = GaussianNoise(25), albumentations.Blur(p=1)
    some = [
        [noise],
        [GaussianNoise(24)],
        [GaussianNoise(25, p=0.5)],
        [noise, blur],
        [blur, noise],
        [albumentations.OneOf([noise, blur], p=1)],
        [albumentations.OneOf([noise, blur], p=0.5)],
        [albumentations.SomeOf([noise, blur], n=1, p=1)],
        [albumentations.Lambda(image=describe, p=1)],
        [albumentations.Lambda(image=len, p=1)],
    ]
    assert len(set(map(describe, some))) == len(some)
    assert describe([noise]) == describe([GaussianNoise(25)])


def test_a_transform_describes_itself_alike_before_and_after_use(photo):
    noise = albumentations.Compose([GaussianNoise((0, 25))])
    before = describe(noise)
    noise(image=photo.astype(np.float32) / 255)
    assert describe(noise) == before


def test_arguments_kept_under_other_names_count():
    class Mine(albumentations.ImageOnlyTransform):
        def __init__(self, strength, p=1.0):
            super().__init__(p=p)
            self.table = np.arange(5000) * strength

    assert describe(Mine(1)) == describe(Mine(1))
    assert describe(Mine(1)) != describe(Mine(2))


def test_no_memory_address_tells_processes_apart():
    fading = albumentations.OneOf([albumentations.ColorJitter(p=1), albumentations.Blur(p=0.5)], p=1)
    assert "0x" in repr(vars(fading[0]))  # ColorJitter keeps functions
    assert " at 0x" not in describe(fading)
    assert describe({"b", "a"}) == "['a', 'b']"  # sets are in another order in each process
